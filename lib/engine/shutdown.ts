import type { FastifyBaseLogger } from 'fastify'
import { pgScopeError } from '../errors.ts'
import type { Counters } from '../pool/counters.ts'
import type { AutocommitSession } from '../session/autocommit-session.ts'
import type { OpenWork } from './open-work.ts'
import type { PoolInUse } from './pool-in-use.ts'

/** How long canceled work may take to end before the pool closes its sockets. In milliseconds. */
const grace = 1000

export interface ShutdownParts {
  readonly work: OpenWork
  readonly pools: PoolInUse
  readonly counters: Counters
  /** The session of `app.db.query()`. */
  readonly ownSession: AutocommitSession
  readonly log: FastifyBaseLogger
  /** In milliseconds. */
  readonly closeTimeout: number
}

/**
 * Closes an engine. The states follow each other:
 *
 * - open
 * - draining: the app has begun to close, `closeTimeout` runs, and new work is still accepted
 * - closing: new work is rejected, and open work may end until `closeTimeout` has elapsed; then it is canceled
 * - closed: the pool is closed
 */
export class Shutdown {
  readonly #parts: ShutdownParts
  /** The timer of closeTimeout, set when draining begins. */
  #deadline: NodeJS.Timeout | null = null
  #closing: Promise<void> | null = null

  constructor (parts: ShutdownParts) {
    this.#parts = parts
  }

  drain (): void {
    this.#deadline ??= setTimeout(() => this.#force(), this.#parts.closeTimeout)
  }

  /** New work is rejected. Also true when the engine is closed. */
  get closing (): boolean {
    return this.#closing !== null
  }

  close (): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close (): Promise<void> {
    const { work, ownSession, pools } = this.#parts
    this.drain()
    while (!work.isEmpty || ownSession.working) {
      await Promise.race([
        work.nextChange(),
        ...(ownSession.working ? [ownSession.settled()] : []),
        ...(work.pending.size > 0 ? [Promise.all(work.pending)] : [])
      ])
    }
    clearTimeout(this.#deadline!)
    await pools.close()
    work.changed()
  }

  /** closeTimeout has elapsed: cancels and rolls back the work that is still open. */
  #force (): void {
    const { work, ownSession, pools, counters, log, closeTimeout } = this.#parts
    const error = pgScopeError('FST_PG_SCOPE_CLOSED', 'The app is closing, and the work did not end within ' +
      `${closeTimeout} ms (\`closeTimeout\`): it is rolled back.`)
    log.warn(
      { sessions: work.sessions.size, leases: work.leases.size },
      'closeTimeout has elapsed: open work is canceled and rolled back'
    )
    for (const session of work.sessions) {
      session.end('rollback', error).catch(() => {})
      session.onForcedClose?.(error)
    }
    ownSession.end('rollback', error)
    for (const lease of work.leases) {
      if (lease.isReturned) continue // its connection was lost
      counters.canceled++
      // A server that executes a statement does not notice that its client has disconnected.
      lease.connection.cancel().finally(() => lease.destroy())
    }
    setTimeout(() => {
      work.abandon()
      // The pool closes the sockets of connections that still do not answer.
      pools.close().then(() => work.changed())
    }, grace)
  }
}
