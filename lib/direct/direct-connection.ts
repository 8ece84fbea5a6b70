import pg from 'pg'
import { isPgScopeError, pgScopeError } from '../errors.ts'
import { ownFields } from '../own-fields.ts'
import { ServerParameters } from '../pgbouncer/detect.ts'
import { readAnswersOf } from '../postgres/answers.ts'
import { cancelRequest } from '../postgres/cancel.ts'
import { type CheckHost, hostsOf, onSomeHost, timeoutOfOne } from '../postgres/hosts.ts'
import { connectError, nameOf, type Target, targetOf } from '../postgres/target.ts'

/** How often a silent connection is asked for a sign of life, and how long that may take. Milliseconds. */
const heartbeat = 10000

/** How direct connections are opened. */
export interface DirectHost {
  readonly config: pg.ClientConfig
  /** Limits the login, in milliseconds. */
  readonly timeout: number
  /** The option `directUrl` is set. */
  readonly hasDirectUrl: boolean
}

/**
 * One connection to PostgreSQL outside of the pool, for what belongs to a server session: LISTEN and session locks.
 * While no statement runs, it is asked for a sign of life, because a connection that only waits does not notice a
 * broken network.
 */
export class DirectConnection {
  readonly #client: pg.Client
  readonly #target: Target
  readonly #onLost: (error: Error) => void
  readonly #timer: NodeJS.Timeout
  /** Statements without an answer. */
  #running = 0
  #asked = false
  #isClosed = false

  private constructor (client: pg.Client, target: Target, onLost: (error: Error) => void) {
    this.#client = client
    this.#target = target
    this.#onLost = onLost
    this.#timer = setInterval(() => this.#beat(), heartbeat)
    this.#timer.unref()
    client.on('error', (error) => this.#lose(error))
    client.on('end', () => this.#lose(new Error('the server has closed the connection')))
  }

  /**
   * @param onLost called once if the connection is lost; not after close()
   * @throws FST_PG_SCOPE_UNREACHABLE, FST_PG_SCOPE_LOGIN_REFUSED
   * @throws FST_PG_SCOPE_POOLER_UNSUPPORTED a pooler that shares server connections is in between
   */
  static async open (host: DirectHost, onLost: (error: Error) => void): Promise<DirectConnection> {
    const { config, timeout, hasDirectUrl } = host
    const target = targetOf(config)
    const connectionTimeoutMillis = timeoutOfOne(hostsOf(config), timeout)
    try {
      return await onSomeHost(config, (each, check) => {
        const one = ownFields(each, { connectionTimeoutMillis })
        return DirectConnection.#open(one, target, check, hasDirectUrl, onLost)
      })
    } catch (error) {
      throw isPgScopeError(error) ? error : connectError(error, target)
    }
  }

  static async #open (
    config: pg.ClientConfig, target: Target, check: CheckHost, hasDirectUrl: boolean, onLost: (error: Error) => void
  ): Promise<DirectConnection> {
    const client = new pg.Client(config)
    const parameters = new ServerParameters(client)
    readAnswersOf(client)
    client.on('error', () => {})
    try {
      await client.connect()
      await check(client, parameters.role)
      const { rows: [row] } = await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')
      const pooler = parameters.pooler(Number(row?.pid))
      const isOwn = pooler.kind === 'none' || (pooler.kind === 'pgbouncer' && pooler.mode === 'session')
      if (!isOwn) throw pooledError(hasDirectUrl, target)
    } catch (error) {
      client.connection.stream.destroy()
      throw error
    }
    client.removeAllListeners('error')
    return new DirectConnection(client, target, onLost)
  }

  onNotification (listener: (notification: pg.Notification) => void): void {
    this.#client.on('notification', listener)
  }

  async query (text: string, values: unknown[] = []): Promise<pg.QueryResult> {
    this.#running++
    try {
      return values.length === 0 ? await this.#client.query(text) : await this.#client.query(text, values)
    } catch (error) {
      throw error instanceof pg.DatabaseError ? error : this.#lostError(error as Error)
    } finally {
      this.#running--
    }
  }

  /** Stops the statement that runs, without waiting for that. */
  cancel (): void {
    if (!this.#isClosed) cancelRequest(this.#client)
  }

  async close (): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    clearInterval(this.#timer)
    const { stream } = this.#client.connection
    const timer = setTimeout(() => stream.destroy(), 1000)
    await this.#client.end().catch(() => {})
    clearTimeout(timer)
    stream.destroy()
  }

  #beat (): void {
    if (this.#running > 0) {
      if (this.#asked) this.#client.connection.stream.destroy(new Error(`no answer within ${heartbeat} ms`))
      return
    }
    this.#asked = true
    this.query('SELECT 1').then(() => { this.#asked = false }, () => {})
  }

  #lose (error: Error): void {
    if (this.#isClosed) return
    this.#isClosed = true
    clearInterval(this.#timer)
    this.#client.connection.stream.destroy()
    this.#onLost(this.#lostError(error))
  }

  #lostError (error: Error): Error {
    return pgScopeError('FST_PG_SCOPE_CONNECTION_LOST',
      `The direct connection to ${nameOf(this.#target)} was lost (${error.message}).`, error)
  }
}

function pooledError (hasDirectUrl: boolean, target: Target): Error {
  const remedy = hasDirectUrl
    ? '`directUrl` must lead to PostgreSQL itself, or to a pooler in session mode'
    : 'set `directUrl` to the address of PostgreSQL itself'
  return pgScopeError('FST_PG_SCOPE_POOLER_UNSUPPORTED', 'listen() and lock() need a server session, and ' +
    `${nameOf(target)} is reached through a pooler that shares server connections: ${remedy}.`)
}
