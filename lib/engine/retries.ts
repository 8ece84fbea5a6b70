import type { FastifyBaseLogger } from 'fastify'
import { delayAfter, type RetryPolicy } from '../config/retry-policy.ts'
import type { Counters } from '../pool/counters.ts'
import { conflictIn } from '../postgres/sqlstate.ts'
import { statementOf } from '../statement-error.ts'
import type { RetryDelays } from './retry-delays.ts'

/** Why work is not run again, as a part of a sentence. */
export const committedInPart = 'commit() had saved a part of its work'

/**
 * The runs of one handler, or of the function of one scope(), on a connection each. It decides whether another one
 * follows, and delays it.
 */
export class Retries {
  /** The number of the current run. */
  attempt = 1
  readonly #policy: RetryPolicy
  readonly #delays: RetryDelays
  readonly #counters: Counters
  readonly #log: FastifyBaseLogger

  constructor (policy: RetryPolicy, delays: RetryDelays, counters: Counters, log: FastifyBaseLogger) {
    this.#policy = policy
    this.#delays = delays
    this.#counters = counters
    this.#log = log
  }

  /**
   * Whether the work may be run again. If not, an error that makes one expect it says why.
   *
   * @param error what the work has failed with
   * @param failure the failure of its transaction: a library may have replaced the error without naming a cause
   * @param obstacle why the work cannot be run again, or null
   */
  permits (error: unknown, failure: Error | null, obstacle: string | null): boolean {
    if (conflictIn(error) === null && conflictIn(failure) === null) return false
    const why = obstacle ?? this.#limit()
    if (why !== null) this.explain(error, why)
    return why === null
  }

  #limit (): string | null {
    const { attempts } = this.#policy
    if (this.attempt >= attempts) return `it was the last of ${attempts} attempts (\`retry\`)`
    return this.#delays.isStopped ? 'the app is closing' : null
  }

  /**
   * Call it after permits(), when the transaction is rolled back.
   *
   * @param onStop is called with a function that ends the delay, and returns one that removes it
   * @returns false if the delay was ended: the work must not be run again
   */
  async delay (error: unknown, onStop: (stop: () => void) => () => void): Promise<boolean> {
    const delay = delayAfter(this.#policy, this.attempt)
    const { attempt } = this
    const sqlstate = conflictIn(error)
    this.#log.info({ attempt, sqlstate, statement: statementOf(error), delay: Math.round(delay) },
      'a concurrent transaction prevented the commit: the work is run again')
    if (!await this.#delays.wait(delay, onStop)) {
      this.explain(error, this.#limit() ?? 'it was ended before the next attempt')
      return false
    }
    return true
  }

  /** The next attempt begins. */
  next (): void {
    this.attempt++
    this.#counters.retried++
  }

  /** The error that says why the work is not run again: it passes here again as it is sent. */
  #explained: unknown = null

  /** Adds the number of the attempt to the final error, and why no other one follows. */
  explain (error: unknown, why: string): void {
    if (typeof error !== 'object' || error === null || !Object.isExtensible(error)) return
    if (error === this.#explained) return
    this.#explained = error
    Object.assign(error, { attempt: this.attempt, notRetried: why })
  }
}
