import type { AcquireEvent, EngineIdentity, TelemetryEvent } from '../../types/telemetry.ts'
import type { InContext } from '../async-context.ts'
import type { Channel } from './channel.ts'
import type { RequestLabel } from './request-label.ts'

const noop = (): void => {}

/** The fields that all events begin with. Their classes make all fields at once, as it is slow to add them later. */
export class OperationEvent implements TelemetryEvent {
  readonly engine: EngineIdentity
  readonly request: RequestLabel | undefined
  readonly route: string | undefined
  readonly startTime = performance.now()
  duration?: number = undefined

  constructor (engine: EngineIdentity, request: RequestLabel | undefined) {
    this.engine = engine
    this.request = request
    this.route = request?.route
  }
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
  /** Null: it is not published. */
  readonly inContext: InContext | null
  readonly #channel: Channel<Event>
  #isEnded = false

  /** @param inContext undefined: that of the running code */
  constructor (channel: Channel<Event>, event: Event, inContext?: InContext | null) {
    this.#channel = channel
    this.event = event
    this.inContext = inContext === undefined ? channel.context() : inContext
    channel.started(event)
    if (this.inContext === null) return
    if (inContext == null) this.#publishStart()
    else inContext(() => { this.#publishStart() })
  }

  #publishStart (): void {
    const { start, end } = this.#channel.published
    start.runStores(this.event, noop)
    end.publish(this.event)
  }

  /** Later calls have no effect, and neither has fail(). */
  succeed (): void {
    if (this.#isEnded) return
    this.#isEnded = true
    const { event } = this
    event.duration = performance.now() - event.startTime
    this.#channel.ended(event)
    this.inContext?.(() => { this.#publishEnd() })
  }

  #publishEnd (): void {
    const { event } = this
    const { asyncStart, asyncEnd, error } = this.#channel.published
    if (event.error !== undefined) error.publish(event)
    asyncStart.runStores(event, () => asyncEnd.publish(event))
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
