import type { EngineIdentity } from '../../types/telemetry.ts'
import { acquireChannel } from '../telemetry/channels.ts'
import { Operation } from '../telemetry/operation.ts'
import type { Connection } from './connection.ts'
import type { AcquireRequest } from './wait-queue.ts'

/** Publishes that the waiter asks for a connection. A resent batch asks again, in the async context of its caller. */
export function traceAcquire (waiter: AcquireRequest, engine: EngineIdentity): void {
  if (!acquireChannel.hasSubscribers) return
  const event = { engine, route: waiter.label, startTime: performance.now(), raw: waiter.exclusive }
  waiter.trace = new Operation(acquireChannel, event, waiter.trace?.inContext)
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
