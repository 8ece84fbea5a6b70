import pg from 'pg'
import { Told } from '../postgres/pooler.ts'
import type { PoolLimits } from './bounded-pool.ts'
import { Connection } from './connection.ts'
import type { Source, SourceHost } from './strategy.ts'

const goodbye = 1000

/** Opens a connection for each session and keeps none: behind PgBouncer, which pools alone. */
export class NoConnections implements Source {
  readonly kind = 'null'
  readonly keeps = false
  readonly idle = 0
  readonly #host: SourceHost
  readonly #limits: PoolLimits
  readonly #connections = new Set<Connection>()
  #opening = 0
  #emptied: (() => void) | null = null

  constructor (host: SourceHost, limits: PoolLimits) {
    this.#host = host
    this.#limits = limits
  }

  get open (): number {
    return this.#connections.size + this.#opening
  }

  take (done: (error: unknown, connection: Connection | null) => void): void {
    const settings = this.#host.baseline()
    const client = new pg.Client({ ...this.#host.client, ...settings, pipeline: true, connectionTimeoutMillis: this.#limits.acquireTimeout } as pg.ClientConfig)
    const told = new Told(client)
    this.#opening++
    client.connect((error: unknown) => {
      this.#opening--
      if (error != null) {
        client.on('error', () => {})
        return done(error, null)
      }
      this.#host.counters.opened++
      const connection = new Connection(client, settings, 0, this.#host.prepares())
      this.#connections.add(connection)
      client.once('end', () => {
        this.#connections.delete(connection)
        if (this.#connections.size === 0) this.#emptied?.()
      })
      this.#host.connected(connection, told)
      done(undefined, connection)
    })
  }

  put (connection: Connection): void {
    if (connection.clean) connection.client.end().catch(() => {})
    else connection.destroy()
  }

  async warm (): Promise<void> {}

  async end (): Promise<void> {
    if (this.#connections.size === 0) return
    const timer = setTimeout(() => { for (const connection of this.#connections) connection.destroy() }, goodbye)
    await new Promise<void>((resolve) => { this.#emptied = resolve })
    clearTimeout(timer)
  }
}
