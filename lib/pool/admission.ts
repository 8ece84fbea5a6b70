import type { PoolLimits } from './pool-limits.ts'
import { queueFullError, queueTooSlowError } from './pool-errors.ts'
import { ServiceRate } from './service-rate.ts'

/**
 * A request is refused if its expected wait exceeds this many times `acquireTimeout`. Above 1, as the rate is an
 * estimate.
 */
const margin = 1.25

/** The part of `acquireTimeout` that a queue must have lasted before its rate is used. */
const settling = 0.2

/** Rejects immediately a session that would time out anyway, because the queue is full or too slow. */
export class Admission {
  readonly #limits: PoolLimits
  readonly #rate: ServiceRate

  constructor (limits: PoolLimits) {
    this.#limits = limits
    this.#rate = new ServiceRate(limits.max, limits.acquireTimeout * settling)
  }

  /** A connection was granted. @param waiting waiters that remain */
  served (waiting: number): void {
    this.#rate.served(waiting)
  }

  /**
   * The error for one more waiter, or null if it may wait.
   *
   * @param leased connections in use
   * @param taken connections in use, being opened or being closed
   */
  refusal (waiting: number, leased: number, taken: number): Error | null {
    const { max, maxWaiting, acquireTimeout } = this.#limits
    // For max - leased of the waiters a connection can still be opened, so they do not count.
    if (waiting >= maxWaiting + max - leased) return queueFullError(max, leased, waiting)
    if (taken < max) return null
    const wait = this.#rate.waitBehind(waiting)
    return wait <= acquireTimeout * margin ? null : queueTooSlowError(max, waiting, wait, acquireTimeout)
  }
}
