import type { PoolLimits } from '../pool-limits.ts'
import { Clients } from './clients.ts'
import { type Connection, cutOff } from '../connection.ts'
import type { ConnectionSource, ConnectionSourceHost } from './connection-source.ts'

/** Opens a connection for each session and keeps none: for use behind PgBouncer, which then is the only pool. */
export class SingleUseSource implements ConnectionSource {
  readonly kind = 'null'
  readonly keepsConnections = false
  readonly idle = 0
  readonly #acquireTimeout: number
  readonly #clients: Clients

  constructor (host: ConnectionSourceHost, limits: PoolLimits) {
    this.#acquireTimeout = limits.acquireTimeout
    this.#clients = new Clients(host, { maxLifetime: 0, maxUses: Infinity }, limits.acquireTimeout)
  }

  get open (): number {
    return this.#clients.open - this.#clients.leaving
  }

  get leaving (): number {
    return this.#clients.leaving
  }

  whenLeft (callback: () => void): void {
    this.#clients.left = callback
  }

  take (done: (error: unknown, connection: Connection | null) => void): void {
    const client = new this.#clients.Client()
    client.on('error', () => {})
    let late: Error | null = null
    const timer = setTimeout(() => {
      late = new Error(`no connection within ${this.#acquireTimeout} ms`)
      cutOff(client)
    }, this.#acquireTimeout)
    client.connect((error: unknown) => {
      clearTimeout(timer)
      if (error != null) {
        // Not counted as leaving: it takes no place on the server that the pool would have to wait for.
        cutOff(client)
        done(late ?? error, null)
      } else done(undefined, this.#clients.opened(client))
    })
  }

  put (connection: Connection): void {
    if (!connection.canEndGracefully) connection.destroy()
    connection.client.end().catch(() => {})
  }

  outdate (): void {
    this.#clients.outdate()
  }

  async warm (): Promise<void> {}

  end (): Promise<void> {
    return this.#clients.end(async () => {})
  }
}
