import { connectError, type Target } from '../postgres/target.ts'
import { exhaustedError } from './pool-errors.ts'

/** What happened while nobody was given a connection: it tells a pool that is used up from a server that gives none. */
export class TimeoutDiagnosis {
  /** Where each session has a connection of its own, some are always on their way. */
  readonly #keeps: boolean
  readonly #target: Target
  /** performance.now() when a connection was last given to somebody. */
  #lastGrant = -Infinity
  #lastRefusal: { readonly error: unknown, readonly at: number } | null = null

  /** @param keeps whether the pool's source keeps connections */
  constructor (keeps: boolean, target: Target) {
    this.#keeps = keeps
    this.#target = target
  }

  granted (): void {
    this.#lastGrant = performance.now()
  }

  /** The server refused one. */
  refused (error: unknown): void {
    this.#lastRefusal = { error, at: performance.now() }
  }

  /** What somebody is told who has waited for `acquireTimeout`. @param leased connections in use */
  timedOut ({ acquireTimeout, max }: { readonly acquireTimeout: number, readonly max: number }, leased: number, waiting: number): Error {
    // What happened before this one came says nothing about it.
    const came = performance.now() - acquireTimeout
    const refusal = this.#lastRefusal !== null && this.#lastRefusal.at >= came ? this.#lastRefusal.error : undefined
    const passing = !this.#keeps && refusal === undefined && this.#lastGrant >= came
    return leased < max && !passing
      ? connectError(refusal ?? new Error(`no connection within ${acquireTimeout} ms`), this.#target)
      : exhaustedError(max, waiting, acquireTimeout, refusal)
  }
}
