/** What an idle second of the pool may count for at most, so that a stall of the server does not turn everybody away. Milliseconds. */
const longestGap = 1000

/** How fast a full pool serves its queue, as a moving average of the time from one connection handed on to the next. */
export class ServiceRate {
  #gap: number | null = null
  #last: number | null = null

  /** @param waiting how many still wait: with nobody in the queue a gap says nothing about the pool's pace */
  served (waiting: number): void {
    const now = waiting > 0 ? performance.now() : null
    if (now !== null && this.#last !== null) {
      const gap = Math.min(now - this.#last, longestGap)
      this.#gap = this.#gap === null ? gap : this.#gap + (gap - this.#gap) / 32
    }
    if (now === null) this.#gap = null
    this.#last = now
  }

  /** How long one more would wait behind so many, in milliseconds; 0 while that is not known. */
  waitBehind (waiting: number): number {
    return this.#gap === null ? 0 : this.#gap * (waiting + 1)
  }
}
