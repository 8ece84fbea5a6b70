import pg from 'pg'
import type { PoolLimits } from '../pool-limits.ts'
import { Clients } from './clients.ts'
import type { Connection, ScopeClient } from '../connection.ts'
import type { ConnectionSource, ConnectionSourceHost } from './connection-source.ts'

/** Keeps connections for the next session, in a pg.Pool; waiting is not left to it, for its own queue has no bound. */
export class KeepAliveSource implements ConnectionSource {
  readonly kind = 'queue'
  readonly keepsConnections = true
  readonly #min: number
  readonly #clients: Clients
  readonly #pool: pg.Pool
  readonly #releases = new WeakMap<Connection, (destroy?: boolean) => void>()

  constructor (host: ConnectionSourceHost, limits: PoolLimits) {
    this.#min = limits.min
    this.#clients = new Clients(host, limits)
    this.#pool = new pg.Pool({
      // All that pg.Pool reads: what is missing here it would find in a polluted Object.prototype.
      Promise: undefined,
      log: undefined,
      verify: undefined,
      onConnect: undefined,
      allowExitOnIdle: false,
      maxUses: Infinity, // counted by the connection, which sees hand-overs, too
      Client: this.#clients.Client,
      max: limits.max,
      min: limits.min,
      connectionTimeoutMillis: limits.acquireTimeout,
      idleTimeoutMillis: limits.idleTimeout,
      maxLifetimeSeconds: limits.maxLifetime / 1000 // for idle ones; a busy one is looked at when it comes back
    } as pg.PoolConfig)
    this.#pool.on('connect', (client) => this.#clients.opened(client as unknown as ScopeClient)) // made of our own class, which pg.Pool's types do not know
    // An idle connection that dies is no news: it is replaced when somebody wants one.
    this.#pool.on('error', () => {})
  }

  get open (): number {
    return this.#pool.totalCount
  }

  get idle (): number {
    return this.#pool.idleCount
  }

  get leaving (): number {
    return this.#clients.leaving
  }

  whenLeft (callback: () => void): void {
    this.#clients.left = callback
  }

  take (done: (error: unknown, connection: Connection | null) => void): void {
    this.#pool.connect((error, client, release) => {
      if (client === undefined) return done(error, null)
      const connection = this.#clients.connectionOf(client)
      this.#releases.set(connection, release)
      done(undefined, connection)
    })
  }

  put (connection: Connection, keep: boolean): void {
    connection.reused = true
    if (!keep && !connection.canEndGracefully) connection.destroy()
    this.#releases.get(connection)!(!keep)
  }

  outdate (): void {
    this.#clients.outdate()
  }

  async warm (): Promise<void> {
    const wanted = this.#min - this.#pool.totalCount
    const answers = await Promise.allSettled(Array.from({ length: Math.max(0, wanted) }, () => this.#pool.connect()))
    for (const answer of answers) {
      if (answer.status === 'rejected') continue
      this.#clients.connectionOf(answer.value).reused = true
      answer.value.release()
    }
    for (const answer of answers) if (answer.status === 'rejected') throw answer.reason
  }

  end (): Promise<void> {
    // pg.Pool's end() waits without a limit for every client that is in use, and not at all for idle ones to close their sockets.
    return this.#clients.end(() => this.#pool.end())
  }
}
