import { tracingChannel } from 'node:diagnostics_channel'
import type {
  AcquireEvent, ConnectEvent, LeaseEvent, SettleEvent, StatementEvent, TransactionEvent
} from '../../types/telemetry.ts'
import type { Channel } from './operation.ts'

// The channels of this package: their names and what is published on them. docs/telemetry.md describes them.

function channel<Event extends object> (name: string): Channel<Event> {
  return tracingChannel(`fastify-pg-scope:${name}`)
}

export const statementChannel = channel<StatementEvent>('statement')
export const transactionChannel = channel<TransactionEvent>('transaction')
export const acquireChannel = channel<AcquireEvent>('acquire')
export const leaseChannel = channel<LeaseEvent>('lease')
export const connectChannel = channel<ConnectEvent>('connect')
export const settleChannel = channel<SettleEvent>('settle')
