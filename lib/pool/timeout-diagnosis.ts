import { connectError, type Target } from '../postgres/target.ts'
import { exhaustedError } from './pool-errors.ts'
import type { PoolLimits } from './pool-limits.ts'
import { PoolObserver } from './pool-observer.ts'

/** Tells why a waiter timed out: the pool is exhausted, or the server accepts no connection. */
export class TimeoutDiagnosis extends PoolObserver {
  /** Without it each session opens a connection, so that some are always being opened. */
  readonly #keeps: boolean
  readonly #target: Target
  /** performance.now() when a connection was last granted. */
  #lastGrant = -Infinity
  #lastRefusal: { readonly error: unknown, readonly at: number } | null = null

  /** @param keeps whether the pool's source keeps connections */
  constructor (keeps: boolean, target: Target) {
    super()
    this.#keeps = keeps
    this.#target = target
  }

  override granted (): void {
    this.#lastGrant = performance.now()
  }

  override connectionRefused (error: unknown): void {
    this.#lastRefusal = { error, at: performance.now() }
  }

  /**
   * The error of a waiter that has waited for `acquireTimeout`.
   *
   * @param leased connections in use
   * @param waiting other waiters in the queue
   */
  timedOut (limits: PoolLimits, leased: number, waiting: number): Error {
    const { acquireTimeout, max } = limits
    // Only what happened while this waiter was in the queue counts.
    const requested = performance.now() - acquireTimeout
    const last = this.#lastRefusal
    const refusal = last !== null && last.at >= requested ? last.error : undefined
    // Connections are being opened and used, only not fast enough.
    const isServing = !this.#keeps && refusal === undefined && this.#lastGrant >= requested
    return leased < max && !isServing
      ? connectError(refusal ?? new Error(`no connection within ${acquireTimeout} ms`), this.#target)
      : exhaustedError(limits, waiting, refusal)
  }
}
