import { bindToContext } from '../../async-context.ts'
import { letExit } from '../../process-exit.ts'
import { type Reject, Turns } from '../turns.ts'

/** Calls that wait for their turn, as Turns, and no longer than a limit, unless what they wait for is busy. */
export class BoundedTurns {
  readonly #turns = new Turns()
  readonly #limit: number
  readonly #exceeded: () => Error
  readonly #isBusy: () => boolean

  /**
   * @param limit milliseconds
   * @param exceeded makes the error of a call that waits for longer
   * @param isBusy a statement runs or waits for a connection: the calls wait for it, and not for each other
   */
  constructor (limit: number, exceeded: () => Error, isBusy: () => boolean) {
    this.#limit = limit
    this.#exceeded = exceeded
    this.#isBusy = isBusy
  }

  get isEmpty (): boolean {
    return this.#turns.isEmpty
  }

  /**
   * The call starts in the async context of its caller.
   *
   * @param exceed rejects it when it has waited for too long
   */
  add (start: () => void, reject: Reject, exceed = reject): void {
    let isOver = false
    const end = (run: () => void): void => {
      if (isOver) return
      isOver = true
      clearTimeout(timer)
      run()
    }
    const timer = setTimeout(() => {
      if (this.#isBusy()) timer.refresh()
      else end(() => exceed(this.#exceeded()))
    }, this.#limit)
    letExit(timer)
    this.#turns.add(bindToContext(() => end(start)), (error) => end(() => reject(error)))
  }

  /** Starts all of them. Calls that come to wait again wait for the next time. */
  startAll (): void {
    const all = new Turns()
    all.takeFrom(this.#turns)
    all.run(() => true)
  }

  rejectAll (error: Error): void {
    this.#turns.rejectWaiting(error)
  }
}
