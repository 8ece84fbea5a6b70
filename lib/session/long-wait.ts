import { letExit } from '../process-exit.ts'

/** A statement that waits for longer than this is reported. Milliseconds. */
const limit = 5000

/**
 * Reports a statement that waits for a transaction(fn) for seconds. Usually fn awaits it, or something that waits
 * behind it, and never ends. Only the first of the waiting statements has a timer.
 */
export class LongWait {
  readonly #report: (text: string) => void
  #timer: NodeJS.Timeout | null = null

  constructor (report: (text: string) => void) {
    this.#report = report
  }

  /** @returns to be called when the statement no longer waits */
  begin (text: string): () => void {
    if (this.#timer !== null) return noop
    const timer = setTimeout(() => this.#report(text), limit)
    letExit(timer)
    this.#timer = timer
    return () => {
      clearTimeout(timer)
      this.#timer = null
    }
  }
}

function noop (): void {}
