import { AsyncLocalStorage } from 'node:async_hooks'
import type { TracingChannel } from 'node:diagnostics_channel'
import type { AcquireEvent, TelemetryEvent } from '../../types/telemetry.ts'

/** A tracing channel with the event that is published on it. */
export type Channel<Event extends object> = TracingChannel<unknown, Event>

/** Runs a function in the async context in which it was made. */
export type InContext = <T>(fn: () => T) => T

const noop = (): void => {}

/**
 * The async context of the running code. Only with subscribers: it is an AsyncResource on some versions of Node, which
 * V8 keeps for long.
 */
export function currentContext (): InContext {
  return AsyncLocalStorage.snapshot() as InContext
}

/**
 * One operation on a channel, from its start to its only end. Made only if the channel has subscribers:
 *
 *     new Operation() ─► start, end ··· answer ···► succeed() or fail() ─► error?, asyncStart, asyncEnd
 *
 * All of it is published in the async context of the caller, although the answer arrives in that of a socket. The code
 * of the plugin runs outside of the stores that are bound to `start`: a connection that it opens outlives the caller.
 */
export class Operation<Event extends TelemetryEvent> {
  readonly event: Event
  readonly inContext: InContext
  readonly #channel: Channel<Event>
  #isEnded = false

  constructor (channel: Channel<Event>, event: Event, inContext: InContext = currentContext()) {
    this.#channel = channel
    this.event = event
    this.inContext = inContext
    inContext(() => {
      channel.start.runStores(event, noop)
      channel.end.publish(event)
    })
  }

  /** Later calls have no effect, and neither has fail(). */
  succeed (): void {
    if (this.#isEnded) return
    this.#isEnded = true
    const { event } = this
    const { asyncStart, asyncEnd, error } = this.#channel
    event.duration = performance.now() - event.startTime
    this.inContext(() => {
      if (event.error !== undefined) error.publish(event)
      asyncStart.runStores(event, () => asyncEnd.publish(event))
    })
  }

  fail (error: unknown): void {
    if (!this.#isEnded) this.event.error = error
    this.succeed()
  }

  get isEnded (): boolean {
    return this.#isEnded
  }
}

/** A request for a connection on its tracing channel. */
export type AcquireTrace = Operation<AcquireEvent>
