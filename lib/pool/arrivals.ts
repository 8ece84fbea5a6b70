/**
 * Counts the connections that the pool has requested from its source and that have not arrived.
 *
 * Each counts until the source calls back, with a connection or an error. An idle connection arrives at once; a new one
 * may take long, or never arrive if the network drops its packets. So when a waiter gives up, a connection that is
 * opened for it is abandoned: it still counts towards `max`, but later waiters get a request of their own.
 */
export class Arrivals {
  #count = 0
  #idle = 0
  #abandoned = 0

  /** All connections that have not arrived. */
  get count (): number {
    return this.#count
  }

  /** How many of them were idle in the source. */
  get idle (): number {
    return this.#idle
  }

  /** How many of them the waiters in the queue can count on. */
  get expected (): number {
    return this.#count - this.#abandoned
  }

  add (isIdle: boolean): void {
    this.#count++
    if (isIdle) this.#idle++
  }

  /** @param isIdle as passed to add() */
  remove (isIdle: boolean): void {
    this.#abandoned = Math.min(this.#abandoned, --this.#count)
    if (isIdle) this.#idle--
  }

  /** A waiter has given up. @param waiting waiters that remain; connections beyond their number are abandoned */
  abandon (waiting: number): void {
    this.#abandoned = Math.max(this.#abandoned, this.#count - waiting)
  }
}
