import type { AcquireEvent, EngineIdentity } from '../../types/telemetry.ts'
import { acquireChannel } from '../telemetry/channels.ts'
import { Operation, OperationEvent } from '../telemetry/operation.ts'
import type { Connection } from './connection.ts'
import type { AcquireRequest } from './wait-queue.ts'

class Acquire extends OperationEvent implements AcquireEvent {
  readonly raw: boolean
  outcome?: NonNullable<AcquireEvent['outcome']> = undefined
  connection?: NonNullable<AcquireEvent['connection']> = undefined

  constructor (engine: EngineIdentity, { label, exclusive }: AcquireRequest) {
    super(engine, label)
    this.raw = exclusive
  }
}

/** Publishes that the waiter asks for a connection. A resent batch asks again, in the async context of its caller. */
export function traceAcquire (waiter: AcquireRequest, engine: EngineIdentity): void {
  if (!acquireChannel.hasSubscribers) return
  waiter.trace = new Operation(acquireChannel, new Acquire(engine, waiter), waiter.trace?.inContext)
}

export function traceGrant ({ trace }: AcquireRequest, { commitPending, reused }: Connection): void {
  if (trace == null) return
  trace.event.outcome = 'granted'
  trace.event.connection = commitPending ? 'handedOver' : reused ? 'reused' : 'new'
  trace.succeed()
}

export function traceAbandoned ({ trace }: AcquireRequest): void {
  if (trace == null) return
  trace.event.outcome = 'abandoned'
  trace.succeed()
}

/** Rejects a waiter, if there is one. */
export function refuse (waiter: AcquireRequest | null, error: Error): void {
  if (waiter === null) return
  if (waiter.trace != null) {
    waiter.trace.event.outcome = 'refused'
    waiter.trace.fail(error)
  }
  waiter.refused(error)
}
