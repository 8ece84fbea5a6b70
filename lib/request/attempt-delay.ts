import type { Retries } from '../engine/retries.ts'
import type { RawResponse } from './delivery.ts'

/** The delay before the next attempt of a handler. */
export class AttemptDelay {
  readonly #raw: RawResponse
  readonly #disconnected: () => void
  #end: (() => void) | null = null

  /** @param disconnected is called when the client disconnects during the delay */
  constructor (raw: RawResponse, disconnected: () => void) {
    this.#raw = raw
    this.#disconnected = disconnected
  }

  /** @returns false if it was ended: no further attempt may be made */
  async elapses (retries: Retries, conflict: unknown): Promise<boolean> {
    // Without a scope nothing else follows the response.
    this.#raw.on('close', this.#disconnected)
    const elapsed = await retries.delay(conflict, (end) => { this.#end = end })
    this.#raw.off('close', this.#disconnected)
    this.#end = null
    return elapsed
  }

  /** Has no effect if no delay is running. */
  end (): void {
    this.#end?.()
  }
}
