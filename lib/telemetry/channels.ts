import type {
  AcquireEvent, ConnectEvent, LeaseEvent, SettleEvent, StatementEvent, TransactionEvent
} from '../../types/telemetry.ts'
import { Channel } from './channel.ts'

// The channels of this package: their names and what is published on them. docs/telemetry.md describes them.

export const statementChannel = new Channel<StatementEvent>('fastify-pg-scope:statement')
export const transactionChannel = new Channel<TransactionEvent>('fastify-pg-scope:transaction')
export const acquireChannel = new Channel<AcquireEvent>('fastify-pg-scope:acquire')
export const leaseChannel = new Channel<LeaseEvent>('fastify-pg-scope:lease')
export const connectChannel = new Channel<ConnectEvent>('fastify-pg-scope:connect')
export const settleChannel = new Channel<SettleEvent>('fastify-pg-scope:settle')
