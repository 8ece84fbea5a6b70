import pg from 'pg'
import type { Hosts } from '../../postgres/hosts.ts'
import type { PoolLimits } from '../pool-limits.ts'
import { Clients } from './clients.ts'
import type { Connection, ScopeClient } from '../connection.ts'
import type { ConnectionSource, ConnectionSourceHost } from './connection-source.ts'

/**
 * Keeps connections for later sessions, in a pg.Pool. Sessions wait in Pool instead, as the queue of pg.Pool is
 * unbounded.
 */
export class KeepAliveSource implements ConnectionSource {
  readonly kind = 'queue'
  readonly keepsConnections = true
  readonly #min: number
  readonly #hosts: Hosts | null
  readonly #clients: Clients
  readonly #pool: pg.Pool
  readonly #releases = new WeakMap<Connection, (destroy?: boolean) => void>()

  constructor (host: ConnectionSourceHost, limits: PoolLimits) {
    this.#min = limits.min
    this.#hosts = host.hosts
    this.#clients = new Clients(host, limits, limits.acquireTimeout)
    this.#pool = new pg.Pool({
      // Every option that pg.Pool reads, so that it takes none from a polluted Object.prototype.
      Promise: undefined,
      log: undefined,
      verify: undefined,
      onConnect: undefined,
      allowExitOnIdle: false,
      maxUses: Infinity, // Connection counts its uses, as pg.Pool does not see hand-overs
      Client: this.#clients.Client,
      max: limits.max,
      min: limits.min,
      connectionTimeoutMillis: limits.acquireTimeout,
      idleTimeoutMillis: limits.idleTimeout,
      maxLifetimeSeconds: limits.maxLifetime / 1000 // for idle ones; Pool checks the others on return
    } as pg.PoolConfig)
    // The client is of our own class, which the types of pg.Pool do not show.
    this.#pool.on('connect', (client) => this.#clients.opened(client as unknown as ScopeClient))
    // An idle connection that dies needs no report: it is replaced when a session needs one.
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
    const answers = await Promise.allSettled(Array.from({ length: Math.max(0, wanted) }, () => this.#open()))
    for (const answer of answers) {
      if (answer.status === 'rejected') continue
      this.#clients.connectionOf(answer.value).reused = true
      answer.value.release()
    }
    for (const answer of answers) if (answer.status === 'rejected') throw answer.reason
  }

  /** Opens a connection. Each of several hosts is tried once. */
  async #open (): Promise<pg.PoolClient> {
    for (let left = this.#hosts?.all.length ?? 1; ; left--) {
      try {
        return await this.#pool.connect()
      } catch (error) {
        if (left <= 1 || !this.#hosts!.isRetried(error)) throw error
      }
    }
  }

  end (): Promise<void> {
    // end() of pg.Pool waits without a limit for clients in use, and does not wait for the sockets of idle ones.
    return this.#clients.end(() => this.#pool.end())
  }
}
