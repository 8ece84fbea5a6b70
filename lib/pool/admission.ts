import type { PoolLimits } from './pool-limits.ts'
import { queueFullError, queueTooSlowError } from './pool-errors.ts'
import { ServiceRate } from './service-rate.ts'

/** How many times `acquireTimeout` a wait must look like taking before it is refused: the pace of a moment is no promise. */
const certainty = 1.25

/** For what part of `acquireTimeout` a queue must have been there before its pace is believed. */
const settling = 0.2

/** Refuses at once whoever would be refused later anyway: the queue is full, or too slow to get to the end of it in time. */
export class Admission {
  readonly #limits: PoolLimits
  readonly #rate: ServiceRate

  constructor (limits: PoolLimits) {
    this.#limits = limits
    this.#rate = new ServiceRate(limits.max, limits.acquireTimeout * settling)
  }

  /** A connection has gone on to somebody. @param waiting how many still wait */
  served (waiting: number): void {
    this.#rate.served(waiting)
  }

  /**
   * Why one more may not wait, or null.
   *
   * @param leased connections in use
   * @param taken those, and the ones on their way here or out
   */
  refusal (waiting: number, leased: number, taken: number): Error | null {
    const { max, maxWaiting, acquireTimeout } = this.#limits
    // As many as connections can still be opened do not wait for anybody, unless the server keeps them waiting.
    if (waiting >= maxWaiting + max - leased) return queueFullError(max, leased, waiting)
    if (taken < max) return null
    const wait = this.#rate.waitBehind(waiting)
    return wait <= acquireTimeout * certainty ? null : queueTooSlowError(max, waiting, wait, acquireTimeout)
  }
}
