import type { FastifyBaseLogger } from 'fastify'
import { pgScopeError } from '../errors.ts'
import { countEngine } from '../pool/work-context.ts'
import type { Lease } from '../pool/lease.ts'
import { ArraySet } from '../array-set.ts'
import type { AutocommitSession } from '../session/autocommit-session.ts'
import type { ManagedSession, SessionHost } from '../session/managed-session.ts'

/** How long work that was cancelled at close may take to notice. Milliseconds. */
const grace = 1000

/** What an engine has under way, and how it is brought to its end: drained for `closeTimeout`, then by force. */
export class Shutdown {
  /** Those that are not over. */
  readonly sessions = new ArraySet<ManagedSession>()
  readonly leases = new Set<Lease>()
  /** Calls of lease() that wait for their connection. */
  asking = 0
  readonly #host: SessionHost
  readonly #own: AutocommitSession
  readonly #log: FastifyBaseLogger
  readonly #closeTimeout: number
  #watchers: (() => void)[] = []
  /** Runs out closeTimeout after the app began to close. */
  #deadline: NodeJS.Timeout | null = null
  #closing: Promise<void> | null = null

  /** @param own of the engine's own statements */
  constructor (host: SessionHost, own: AutocommitSession, log: FastifyBaseLogger, closeTimeout: number) {
    this.#host = host
    this.#own = own
    this.#log = log
    this.#closeTimeout = closeTimeout
  }

  /** The app begins to close: from here on `closeTimeout` runs. Work goes on. */
  drain (): void {
    this.#deadline ??= setTimeout(() => this.#force(), this.#closeTimeout)
  }

  get draining (): boolean {
    return this.#deadline !== null
  }

  /** Nothing more is taken. */
  get closing (): boolean {
    return this.#closing !== null
  }

  close (): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  /** Something that was under way is so no longer. */
  changed (): void {
    for (const watcher of this.#watchers.splice(0)) watcher()
  }

  async #close (): Promise<void> {
    countEngine(-1)
    this.drain()
    while (this.#busy) {
      const { pending } = this.#host
      await Promise.race([
        new Promise<void>((resolve) => this.#watchers.push(resolve)),
        ...(this.#own.working ? [this.#own.settled()] : []),
        ...(pending.size > 0 ? [Promise.all(pending)] : [])
      ])
    }
    clearTimeout(this.#deadline!)
    await this.#host.pool.close()
    this.changed()
  }

  get #busy (): boolean {
    return this.sessions.size + this.asking + this.leases.size + this.#host.pending.size > 0 || this.#own.working
  }

  /** closeTimeout has run out: whatever still runs is cancelled and rolled back. */
  #force (): void {
    const error = pgScopeError('FST_PG_SCOPE_CLOSED', `The app is closing, and did not wait longer than ${this.#closeTimeout} ms (closeTimeout): the work is rolled back.`)
    this.#log.warn({ sessions: this.sessions.size, leases: this.leases.size }, 'closeTimeout has run out: work in flight is cancelled and rolled back')
    for (const session of this.sessions) {
      session.end('rollback', error).catch(() => {})
      session.onForcedClose?.(error)
    }
    this.#own.end('rollback', error)
    for (const lease of this.leases) {
      if (lease.isReturned) continue // its connection was lost
      this.#host.counters.canceled++
      // A server that works on a statement does not notice that its client has gone.
      lease.connection.cancel().finally(() => lease.destroy())
    }
    // What does not answer even now is left to the pool, which closes the sockets.
    setTimeout(() => {
      this.sessions.clear()
      this.leases.clear()
      this.#host.pending.clear()
      this.#host.pool.close().then(() => this.changed())
      this.changed()
    }, grace)
  }
}
