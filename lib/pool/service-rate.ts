/**
 * How fast a full pool serves its queue: a moving average of the time from one connection handed on to the next, over a few rounds
 * of all connections.
 */
export class ServiceRate {
  readonly #max: number
  /** How much the newest gap counts. */
  readonly #weight: number
  /**
   * How often the average one gap may count for at most. Connections that come back all at once leave a gap of `max` times
   * the average; what is longer is a stall, which says little of the time after it. A server that has become slow still
   * shows within a few gaps, for the bound grows with the average.
   */
  readonly #longest: number
  #gap = 0
  #gaps = 0
  #last = 0

  /** @param max connections that serve the queue together */
  constructor (max: number) {
    this.#max = max
    this.#weight = 1 / (4 * max + 32)
    this.#longest = 2 * max + 8
  }

  /** @param waiting how many still wait: with nobody in the queue a gap says nothing about the pool's pace */
  served (waiting: number, now = performance.now()): void {
    if (this.#last !== 0) this.#learn(now - this.#last)
    if (waiting === 0) this.#gaps = 0
    this.#last = waiting === 0 ? 0 : now
  }

  #learn (gap: number): void {
    this.#gaps++
    // The first round is as good as any: the mean of it.
    if (this.#gaps <= this.#max) this.#gap = this.#gaps === 1 ? gap : this.#gap + (gap - this.#gap) / this.#gaps
    else this.#gap += (Math.min(gap, Math.max(this.#gap, 0.01) * this.#longest) - this.#gap) * this.#weight
  }

  /** How long one more would wait behind so many, in milliseconds; 0 until every connection has been handed on once. */
  waitBehind (waiting: number): number {
    return this.#gaps < this.#max ? 0 : this.#gap * (waiting + 1)
  }
}
