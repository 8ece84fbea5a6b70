/**
 * How fast a full pool serves its queue: the moving average of the time between two grants, over a few rounds of
 * all connections.
 */
export class ServiceRate {
  readonly #max: number
  readonly #settling: number
  /** The weight of the newest gap in the average. */
  readonly #weight: number
  /**
   * A gap counts as at most this many times the average. Connections that are returned together leave a gap of
   * `max` times the average; a longer one is a stall, which says little about the time after it. A server that has
   * become slow still shows within a few gaps, as the bound grows with the average.
   */
  readonly #longest: number
  #gap = 0
  #gaps = 0
  /** performance.now() when the queue began, and at the last grant; 0 while the queue is empty. */
  #first = 0
  #last = 0

  /**
   * @param max connections that serve the queue together
   * @param settling how long a queue must have lasted before its rate is known, in milliseconds: at the start of a
   *   burst the process is busy accepting it
   */
  constructor (max: number, settling: number) {
    this.#max = max
    this.#settling = settling
    this.#weight = 1 / (4 * max + 32)
    this.#longest = 2 * max + 8
  }

  /** @param waiting waiters that remain; with an empty queue, the time to the next grant says nothing about the rate */
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
    // The first gaps all have the same weight: their mean.
    else this.#gap = this.#gaps === 0 ? gap : this.#gap + (gap - this.#gap) / (this.#gaps + 1)
    this.#gaps++
  }

  /** The expected wait behind that many waiters, in milliseconds; 0 while the rate is not known. */
  waitBehind (waiting: number): number {
    return this.#known ? this.#gap * (waiting + 1) : 0
  }
}
