import { pgScopeError } from '../errors.ts'
import { letExit } from '../process-exit.ts'
import type { ManagedSession } from '../session/managed-session.ts'

/**
 * Limits how long a transaction may be open while a body is sent. The server ends a transaction without a statement for
 * idleInTransactionTimeout, but a slow client that causes an occasional FETCH could hold the connection indefinitely.
 * Only time during the body counts, and a body may use one transaction after another.
 */
export class StreamTimeout {
  readonly #session: ManagedSession
  /** Milliseconds. */
  readonly #limit: number
  readonly #start = performance.now()
  #timer: NodeJS.Timeout | null = null

  /** @param limit in milliseconds; 0 for none */
  constructor (session: ManagedSession, limit: number) {
    this.#session = session
    this.#limit = limit
    if (limit > 0) this.#checkAfter(limit)
  }

  clear (): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
  }

  #checkAfter (delay: number): void {
    this.#timer = setTimeout(() => this.#check(), delay)
    letExit(this.#timer)
  }

  #check (): void {
    const { since } = this.#session
    const elapsed = since === null ? 0 : performance.now() - Math.max(since, this.#start)
    // Timers may be early by a millisecond.
    if (elapsed < this.#limit - 1) return this.#checkAfter(Math.ceil(this.#limit - elapsed))
    this.#timer = null
    const error = pgScopeError('FST_PG_SCOPE_CANCELED', 'The client did not read the streamed response within ' +
      `${this.#limit} ms (\`streamTimeout\`): its transaction is rolled back.`)
    this.#session.end('rollback', error).catch(() => {})
  }
}
