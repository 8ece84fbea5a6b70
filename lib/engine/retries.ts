import type { FastifyBaseLogger } from 'fastify'
import { delayAfter, type RetryPolicy } from '../config/retry-policy.ts'
import type { Counters } from '../pool/counters.ts'
import { pgScopeError } from '../errors.ts'
import { conflictIn } from '../postgres/sqlstate.ts'
import { statementOf } from '../statement-error.ts'
import type { RetryDelays } from './retry-delays.ts'

/** Why no further attempt is made, as a part of a sentence. */
export const committedInPart = 'commit() had saved a part of its work'

/** The attempts of one handler, or of the function of one scope(), with a session each: their number and the delays. */
export class Retries {
  /** The number of the current attempt. */
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
   * Another attempt may help.
   *
   * @param error what the attempt has failed with
   * @param failure the failure of its transaction: a library may have replaced the error without naming a cause
   */
  isConflict (error: unknown, failure: Error | null): boolean {
    return conflictIn(error) !== null || conflictIn(failure) !== null
  }

  /** Why there is no attempt after this one, whatever the work is, or null. */
  get limit (): string | null {
    const { attempts } = this.#policy
    if (this.attempt >= attempts) return `it was the last of ${attempts} attempts (\`retry\`)`
    return this.#delays.isStopped ? 'the app is closing' : null
  }

  /**
   * Call it when the transaction is rolled back and nothing prevents another attempt.
   *
   * @param conflict the error of the concurrent transaction
   * @param onStart is called with a function that ends the delay
   * @returns false if the delay was ended: no further attempt may be made
   */
  delay (conflict: unknown, onStart: (stop: () => void) => void): Promise<boolean> {
    const delay = delayAfter(this.#policy, this.attempt)
    const { attempt } = this
    const sqlstate = conflictIn(conflict)
    this.#log.info({ attempt, sqlstate, statement: statementOf(conflict), delay: Math.round(delay) },
      'a concurrent transaction prevented the commit: the work will be run again after the delay')
    return this.#delays.wait(delay, onStart)
  }

  /** The next attempt begins. */
  next (): void {
    this.attempt++
    this.#counters.retried++
  }

  /** The error that says why no further attempt is made: it passes here again as it is sent. */
  #explained: unknown = null

  /** Adds the number of the attempt to the final error, and why no other one follows. @returns the error */
  explain (error: unknown, why: string): unknown {
    if (error !== this.#explained) explain(error, this.attempt, why)
    this.#explained = error
    return error
  }
}

/** Adds to an error why the work that has failed with it is not run again. */
export function explain (error: unknown, attempt: number, why: string): void {
  if (typeof error !== 'object' || error === null || !Object.isExtensible(error)) return
  Object.assign(error, { attempt, notRetried: why })
}

/** What a statement that a failed attempt has left running is rejected with. */
export function attemptEnded (): Error {
  return pgScopeError('FST_PG_SCOPE_SESSION_CLOSED', 'This attempt of the handler has ended, because a concurrent ' +
    'transaction prevented its commit, and the handler is run again (`retry`). Await everything that the handler ' +
    'starts.')
}
