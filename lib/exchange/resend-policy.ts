import type { Connection } from '../pool/connection.ts'
import { isReadOnlyRefusal } from '../postgres/sqlstate.ts'
import type { BatchFailure } from './batch-failure.ts'

/**
 * Whether a write has failed because its server does not accept any, although it must: nothing has happened, and
 * another server may accept it.
 */
export function metReadOnlyServer (
  { error, lost }: BatchFailure, { mustWrite, mayBeReadOnly }: Connection
): boolean {
  return !lost && mustWrite && !mayBeReadOnly && isReadOnlyRefusal(error)
}

/** The delay before every attempt but the first. Milliseconds. */
const delay = 150

/** Together the attempts take longer than server_login_retry in docs/pgbouncer.ini. */
const maxAttempts = 11

/**
 * How often a batch that the server has not begun is sent again. One attempt is not enough behind PgBouncer: a new
 * connection may be assigned a dead server connection too, and after a restart of PostgreSQL PgBouncer rejects the
 * first clients before it logs in again.
 */
export class ResendPolicy {
  #attempts = 0
  #timer: NodeJS.Timeout | null = null

  get canResend (): boolean {
    return this.#attempts < maxAttempts
  }

  resend (fn: () => void): void {
    if (this.#attempts++ === 0) return fn()
    this.#timer = setTimeout(() => {
      this.#timer = null
      fn()
    }, delay)
  }

  /** Cancels a waiting attempt. @returns whether one was waiting */
  cancel (): boolean {
    if (this.#timer === null) return false
    clearTimeout(this.#timer)
    this.#timer = null
    return true
  }
}
