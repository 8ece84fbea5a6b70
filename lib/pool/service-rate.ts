/**
 * How fast a full pool serves its queue: a moving average of the time from one connection handed on to the next, over a few rounds
 * of all connections.
 */
export class ServiceRate {
  readonly #max: number
  readonly #settling: number
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
  /** When the queue began, and when a connection was last handed on; 0 while nobody waits. */
  #first = 0
  #last = 0

  /**
   * @param max connections that serve the queue together
   * @param settling how long a queue must have been there before its pace says anything: in the first moments of a burst the
   *   process is busy with taking it in. Milliseconds.
   */
  constructor (max: number, settling: number) {
    this.#max = max
    this.#settling = settling
    this.#weight = 1 / (4 * max + 32)
    this.#longest = 2 * max + 8
  }

  /** @param waiting how many still wait: with nobody in the queue a gap says nothing about the pool's pace */
  served (waiting: number, now = performance.now()): void {
    if (this.#last === 0) {
      this.#first = now
      this.#gaps = 0
    } else this.#learn(now - this.#last)
    this.#last = waiting === 0 ? 0 : now
  }

  get #known (): boolean {
    return this.#last !== 0 && this.#gaps >= this.#max && this.#last - this.#first >= this.#settling
  }

  #learn (gap: number): void {
    if (this.#known) this.#gap += (Math.min(gap, Math.max(this.#gap, 0.01) * this.#longest) - this.#gap) * this.#weight
    // Until something is known each gap is as good as any: their mean.
    else this.#gap = this.#gaps === 0 ? gap : this.#gap + (gap - this.#gap) / (this.#gaps + 1)
    this.#gaps++
  }

  /** How long one more would wait behind so many, in milliseconds; 0 while that is not known. */
  waitBehind (waiting: number): number {
    return this.#known ? this.#gap * (waiting + 1) : 0
  }
}
