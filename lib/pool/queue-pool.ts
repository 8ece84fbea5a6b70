import pg from 'pg'
import { pgScopeError } from '../errors.ts'
import { failureKind } from '../postgres/sqlstate.ts'
import { connectError, type Target } from '../postgres/target.ts'
import { Connection, cutOff } from './connection.ts'
import { Lease } from './lease.ts'
import type { newCounters, Strategy, StrategyStats, Waiter } from './strategy.ts'
import { WaitQueue } from './wait-queue.ts'

export interface QueuePoolOptions {
  max: number
  min: number
  acquireTimeout: number
  maxWaiting: number
  idleTimeout: number
  maxLifetime: number
  prePing: boolean
}

/** What the pool needs of the engine. */
export interface PoolHost {
  readonly client: pg.ClientConfig
  /** Settings for the startup packet of the next connection. */
  baseline (): Record<string, string>
  readonly target: Target
  readonly counters: ReturnType<typeof newCounters>
  /** Whether a connection that was refused will be taken at a second try. */
  retryConnect (error: unknown): boolean
}

/** How long close() waits for connections to say goodbye before it closes their sockets. Milliseconds. */
const goodbye = 1000

/** How long a kept connection may take to show a sign of life. Milliseconds. */
const signOfLife = 1000

/**
 * Keeps connections, in a pg.Pool. Waiting happens here, before pg.Pool is asked: its own queue has no bound, and whoever
 * waits in it when it ends is never told. A connection that comes back goes straight to the first who waits.
 */
export class QueuePool implements Strategy {
  readonly kind = 'queue'
  readonly #host: PoolHost
  readonly #options: QueuePoolOptions
  readonly #pool: pg.Pool
  readonly #waiting: WaitQueue
  /** Whoever may have an open socket: pg.Pool forgets its clients before they have ended. */
  readonly #clients = new Set<pg.Client>()
  readonly #connections = new Map<pg.Client, Connection>()
  readonly #releases = new WeakMap<Connection, (destroy?: boolean) => void>()
  /** Connections asked of pg.Pool that have not come yet. */
  #arriving = 0
  #leased = 0
  #closing: Promise<void> | null = null
  #lastRefusal: { readonly error: unknown, readonly at: number } | null = null

  constructor (host: PoolHost, options: QueuePoolOptions) {
    this.#host = host
    this.#options = options
    this.#waiting = new WaitQueue(options.acquireTimeout, (waiter) => this.#timedOut(waiter))
    const clients = this.#clients
    this.#pool = new pg.Pool({
      ...host.client,
      // Read for each new connection: what is known of the pooler may change.
      Client: class extends pg.Client {
        readonly baseline: Record<string, string>
        constructor (config?: pg.ClientConfig) {
          const settings = host.baseline()
          // pg.Pool hides the password from being enumerated, and so from being copied.
          super({ ...config, ...host.client, ...settings })
          this.baseline = settings
          clients.add(this)
          this.once('end', () => clients.delete(this))
        }
      },
      pipeline: true,
      max: options.max,
      min: options.min,
      connectionTimeoutMillis: options.acquireTimeout,
      idleTimeoutMillis: options.idleTimeout,
      maxLifetimeSeconds: options.maxLifetime / 1000 // for idle ones; a busy one is looked at when it comes back
    } as pg.PoolConfig)
    this.#pool.on('connect', (client) => this.#opened(client as unknown as pg.Client))
    this.#pool.on('remove', (client) => this.#connections.delete(client as unknown as pg.Client))
    // An idle connection that dies is no news: it is replaced when somebody wants one.
    this.#pool.on('error', () => {})
  }

  acquire (waiter: Waiter): void {
    if (this.#closing !== null) return waiter.refused(this.#closed())
    const { max, maxWaiting } = this.#options
    // As many as connections can still be opened do not wait for anybody, unless the server keeps them waiting.
    if (this.#waiting.length >= maxWaiting + max - this.#leased) {
      this.#host.counters.refused++
      return waiter.refused(pgScopeError('FST_PG_SCOPE_POOL_QUEUE_FULL', `${this.#leased} of ${max} connections are in use and ${this.#waiting.length} sessions wait already (pool.maxWaiting). Try again later, or raise pool.max or pool.maxWaiting.`))
    }
    this.#waiting.push(waiter)
    this.#fetch()
  }

  giveUp (waiter: Waiter): boolean {
    return this.#waiting.remove(waiter)
  }

  stats (): StrategyStats {
    return { open: this.#pool.totalCount, idle: this.#pool.idleCount, inUse: this.#leased, waiting: this.#waiting.length }
  }

  async warm (): Promise<void> {
    const wanted = this.#options.min - this.#pool.totalCount
    const answers = await Promise.allSettled(Array.from({ length: Math.max(0, wanted) }, () => this.#pool.connect()))
    for (const answer of answers) {
      if (answer.status === 'rejected') continue
      this.#connections.get(answer.value as unknown as pg.Client)!.kept = true
      answer.value.release()
    }
    for (const answer of answers) if (answer.status === 'rejected') throw connectError(answer.reason, this.#host.target)
  }

  close (): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close (): Promise<void> {
    this.#waiting.stop()
    for (let waiter = this.#waiting.shift(); waiter !== null; waiter = this.#waiting.shift()) waiter.refused(this.#closed())
    // Nobody waits any more for those that are still being opened.
    for (const client of this.#clients) if (!this.#connections.has(client)) cutOff(client)
    const timer = setTimeout(() => { for (const client of this.#clients) cutOff(client) }, goodbye)
    // pg.Pool's end() waits without a limit for every client that is in use, and not at all for idle ones to close their sockets.
    await this.#pool.end()
    await Promise.all(Array.from(this.#clients, (client) => new Promise((resolve) => client.once('end', resolve))))
    clearTimeout(timer)
  }

  /** Asks pg.Pool for as many connections as there are sessions waiting, within `max`. */
  #fetch (): void {
    while (this.#arriving < this.#waiting.length && this.#leased + this.#arriving < this.#options.max && this.#closing === null) {
      this.#arriving++
      this.#pool.connect((error, client, release) => {
        this.#arriving--
        if (client === undefined) return this.#refused(error)
        const connection = this.#connections.get(client as unknown as pg.Client)!
        this.#releases.set(connection, release)
        this.#leased++
        this.#hand(connection, this.#options.prePing && connection.kept)
      })
    }
  }

  #opened (client: pg.Client): void {
    this.#host.counters.opened++
    const { maxLifetime } = this.#options
    // Up to a tenth earlier, so that connections opened together are not replaced together.
    const expiresAt = maxLifetime === 0 ? Infinity : Date.now() + maxLifetime * (1 - Math.random() / 10)
    this.#connections.set(client, new Connection(client, (client as unknown as { baseline: Record<string, string> }).baseline, expiresAt))
  }

  /** Gives a connection to the first who waits, or lets pg.Pool keep it. */
  #hand (connection: Connection, ping = false): void {
    const waiter = this.#waiting.peek()
    const unfit = connection.lost !== null || connection.expired || (waiter?.fresh === true && connection.kept)
    if (waiter === null || unfit) return this.#store(connection, !unfit)
    if (ping) this.#ping(connection)
    else this.#grant(connection)
  }

  #ping (connection: Connection): void {
    // A network that swallows everything would keep the connection, and its place in the pool, for good.
    const timer = setTimeout(() => connection.destroy(), Math.min(signOfLife, this.#options.acquireTimeout / 2))
    connection.client.query('').then(() => this.#grant(connection), () => this.#store(connection, false)).finally(() => clearTimeout(timer))
  }

  #grant (connection: Connection): void {
    const waiter = this.#waiting.shift()
    if (waiter === null) return this.#store(connection, true)
    this.#host.counters.acquired++
    waiter.granted(new Lease(connection, (connection, keep) => {
      connection.kept = true
      if (keep && this.#closing === null) this.#hand(connection)
      else this.#store(connection, keep)
    }))
  }

  #store (connection: Connection, keep: boolean): void {
    this.#leased--
    connection.kept = true
    if (!keep) {
      this.#host.counters.destroyed++
      // A clean connection says goodbye; anything else is cut off, for the server may never answer.
      if (!connection.clean) connection.destroy()
    }
    this.#releases.get(connection)!(!keep)
    this.#fetch()
  }

  #refused (error: unknown): void {
    this.#lastRefusal = { error, at: performance.now() }
    if (this.#host.retryConnect(error)) return this.#fetch()
    const full = failureKind(error) === 'too-many-connections'
    // Where others of ours are at work or on their way, the next connection to come back will do.
    if (full && this.#leased + this.#arriving > 0) return
    // Those who were passed over until the last of ours was refused are told with it.
    for (let count = full ? this.#options.max : 1; count > 0; count--) this.#waiting.shift()?.refused(connectError(error, this.#host.target))
    this.#fetch()
  }

  #timedOut (waiter: Waiter): void {
    this.#host.counters.timedOut++
    const { acquireTimeout, max } = this.#options
    // What happened before this one came says nothing about it.
    const refusal = this.#lastRefusal !== null && this.#lastRefusal.at >= performance.now() - acquireTimeout ? this.#lastRefusal.error : undefined
    waiter.refused(this.#leased < max
      ? connectError(refusal ?? new Error(`no connection within ${acquireTimeout} ms`), this.#host.target)
      : pgScopeError('FST_PG_SCOPE_POOL_EXHAUSTED', `No connection came free within ${acquireTimeout} ms (pool.acquireTimeout): all ${max} are in use and ${this.#waiting.length} more sessions wait. Look for transactions that stay open while their handler does something else, raise pool.max, or set pool.maxWaiting to refuse earlier.`, refusal))
  }

  #closed (): Error {
    return pgScopeError('FST_PG_SCOPE_CLOSED', 'The engine is closed: it takes no more work.')
  }
}
