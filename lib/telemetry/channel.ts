import { type TracingChannel, tracingChannel } from 'node:diagnostics_channel'
import type { TelemetryEvent } from '../../types/telemetry.ts'
import { currentContext, type InContext } from '../async-context.ts'

export type Listener<Event> = (event: Event) => void

/**
 * One kind of operation. Each operation is published on a channel of node:diagnostics_channel, in the async context of
 * its caller. The parts of this package that need no async context listen to this object instead, which costs a tenth.
 */
export class Channel<Event extends TelemetryEvent> {
  readonly published: TracingChannel<unknown, Event>
  #onStart: readonly Listener<Event>[] = []
  #onEnd: readonly Listener<Event>[] = []

  constructor (name: string) {
    this.published = tracingChannel(name)
  }

  /** Whether anybody is told of operations: otherwise nothing is made for them. */
  get hasSubscribers (): boolean {
    return this.#onEnd.length > 0 || this.#onStart.length > 0 || this.published.hasSubscribers
  }

  /** The async context in which an operation that is called now is published. Null: nobody needs it. */
  context (): InContext | null {
    return this.published.hasSubscribers ? currentContext() : null
  }

  /** @returns ends it */
  onStart (listener: Listener<Event>): () => void {
    this.#onStart = [...this.#onStart, listener]
    return () => { this.#onStart = this.#onStart.filter((other) => other !== listener) }
  }

  /** @returns ends it */
  onEnd (listener: Listener<Event>): () => void {
    this.#onEnd = [...this.#onEnd, listener]
    return () => { this.#onEnd = this.#onEnd.filter((other) => other !== listener) }
  }

  started (event: Event): void {
    for (const listener of this.#onStart) tell(listener, event)
  }

  ended (event: Event): void {
    for (const listener of this.#onEnd) tell(listener, event)
  }
}

/** As node:diagnostics_channel does it: what a listener throws is an uncaught exception, and the operation goes on. */
function tell<Event> (listener: Listener<Event>, event: Event): void {
  try {
    listener(event)
  } catch (error) {
    process.nextTick(() => { throw error })
  }
}
