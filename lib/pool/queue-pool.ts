import pg from 'pg'
import { Told } from '../postgres/pooler.ts'
import type { PoolLimits } from './bounded-pool.ts'
import { Connection } from './connection.ts'
import type { Source, SourceHost } from './strategy.ts'

/** How long end() waits for connections to say goodbye before it closes their sockets. Milliseconds. */
const goodbye = 1000

/** Keeps connections for the next session, in a pg.Pool; waiting is not left to it, for its own queue has no bound. */
export class KeptConnections implements Source {
  readonly kind = 'queue'
  readonly keeps = true
  readonly #min: number
  readonly #pool: pg.Pool
  readonly #connections = new Map<pg.Client, Connection>()
  readonly #releases = new WeakMap<Connection, (destroy?: boolean) => void>()

  constructor (host: SourceHost, limits: PoolLimits) {
    this.#min = limits.min
    this.#pool = new pg.Pool({
      ...host.client,
      // Read for each new connection: what is known of the pooler may change.
      Client: class extends pg.Client {
        readonly baseline: Record<string, string>
        readonly told: Told
        constructor (config?: pg.ClientConfig) {
          const settings = host.baseline()
          super({ ...config, ...settings })
          this.baseline = settings
          this.told = new Told(this)
        }
      },
      pipeline: true,
      max: limits.max,
      min: limits.min,
      connectionTimeoutMillis: limits.acquireTimeout,
      idleTimeoutMillis: limits.idleTimeout,
      maxLifetimeSeconds: limits.maxLifetime / 1000 // for idle ones; a busy one is looked at when it comes back
    } as pg.PoolConfig)
    this.#pool.on('connect', (client) => {
      host.counters.opened++
      const { baseline, told } = client as unknown as { baseline: Record<string, string>, told: Told }
      const connection = new Connection(client as unknown as pg.Client, baseline, limits.maxLifetime, host.prepares())
      this.#connections.set(connection.client, connection)
      host.connected(connection, told)
    })
    this.#pool.on('remove', (client) => this.#connections.delete(client as unknown as pg.Client))
    // An idle connection that dies is no news: it is replaced when somebody wants one.
    this.#pool.on('error', () => {})
  }

  get open (): number {
    return this.#pool.totalCount
  }

  get idle (): number {
    return this.#pool.idleCount
  }

  take (done: (error: unknown, connection: Connection | null) => void): void {
    this.#pool.connect((error, client, release) => {
      if (client === undefined) return done(error, null)
      const connection = this.#connections.get(client as unknown as pg.Client)!
      this.#releases.set(connection, release)
      done(undefined, connection)
    })
  }

  put (connection: Connection, keep: boolean): void {
    // A clean connection says goodbye; anything else is cut off, for the server may never answer.
    if (!keep && !connection.clean) connection.destroy()
    this.#releases.get(connection)!(!keep)
  }

  async warm (): Promise<void> {
    const wanted = this.#min - this.#pool.totalCount
    const clients = await Promise.all(Array.from({ length: Math.max(0, wanted) }, () => this.#pool.connect()))
    for (const client of clients) client.release()
  }

  async end (): Promise<void> {
    const timer = setTimeout(() => { for (const connection of this.#connections.values()) connection.destroy() }, goodbye)
    // pg.Pool's end() waits for every client without a limit of its own.
    await this.#pool.end()
    clearTimeout(timer)
  }
}
