import pg from 'pg'
import { ownFields } from '../../own-fields.ts'
import { readAnswersOf, type Answers } from '../../postgres/answers.ts'
import { ServerParameters } from '../../pgbouncer/detect.ts'
import { Connection, type ConnectionLimits, cutOff, type ScopeClient } from '../connection.ts'
import type { ConnectionSourceHost } from './connection-source.ts'

/** Method and route of the request whose batch is being answered, where it is one. */
function labelOf (client: pg.Client): string | undefined {
  return (client as unknown as { _getActiveQuery (): { label?: string } | null })._getActiveQuery()?.label // private to pg
}

/** How long connections may take to say goodbye before their sockets are closed. Milliseconds. */
const goodbye = 1000

/** The clients of one source, from the moment they are made to the end of their sockets, and their connections. */
export class Clients {
  readonly #host: ConnectionSourceHost
  readonly #limits: ConnectionLimits
  readonly #open = new Set<ScopeClient>()
  readonly #leaving = new Set<ScopeClient>()
  readonly #connections = new WeakMap<pg.ClientBase, Connection>()
  /** What pg.Pool, or anybody else, makes a new client of. */
  readonly Client: new (config?: pg.ClientConfig) => ScopeClient
  /** Called when one that was leaving has gone. */
  left: () => void = () => {}

  constructor (host: ConnectionSourceHost, limits: ConnectionLimits) {
    this.#host = host
    this.#limits = limits
    const open = this.#open
    const leave = (client: ScopeClient): void => this.leave(client)
    this.Client = class extends pg.Client {
      readonly baseline: Record<string, string>
      readonly parameters: ServerParameters
      readonly answers: Answers
      outdated = false
      constructor (config?: pg.ClientConfig) {
        // Read for each new connection: what is known of the pooler may change.
        const settings = host.baseline()
        // pg.Pool hides the password from being enumerated, and so from being copied.
        super(ownFields(config ?? {}, host.client, settings, { pipeline: true }) as pg.ClientConfig)
        this.baseline = settings
        this.answers = readAnswersOf(this)
        this.parameters = new ServerParameters(this)
        open.add(this)
        this.once('end', () => open.delete(this))
        this.on('notice', (notice) => host.noticed(notice, labelOf(this)))
      }

      override connect (done?: (error: any, client: any) => void): any {
        if (done === undefined) return super.connect()
        super.connect((error: Error | null, client?: pg.Client) => {
          // pg leaves the socket open where it is the password, say, that keeps a client from logging in.
          if (error != null) cutOff(this)
          done(error, client)
        })
      }

      override end (done?: (error: Error) => void): any {
        leave(this)
        return done === undefined ? super.end() : super.end(done)
      }
    }
  }

  get open (): number {
    return this.#open.size
  }

  /** How many are on their way out: the server counts each of them until it has seen the end of its socket. */
  get leaving (): number {
    return this.#leaving.size
  }

  /** A client has logged in. */
  opened (client: ScopeClient): Connection {
    this.#host.counters.opened++
    const connection = new Connection(client, this.#limits, this.#host)
    if (client.outdated) connection.expiresAt = 0
    this.#connections.set(client, connection)
    this.#host.connected(connection, client.parameters)
    return connection
  }

  /** No connection that is open or being opened serves a further session. */
  outdate (): void {
    for (const client of this.#open) {
      client.outdated = true
      const connection = this.#connections.get(client)
      if (connection !== undefined) connection.expiresAt = 0
    }
  }

  connectionOf (client: pg.ClientBase): Connection {
    return this.#connections.get(client)!
  }

  /** One that is saying goodbye, or was cut off. It is waited for, but not for long: the server may never answer. */
  leave (client: ScopeClient): void {
    if (!this.#open.has(client) || this.#leaving.has(client)) return
    this.#leaving.add(client)
    const gone = (): void => {
      clearTimeout(timer)
      if (this.#leaving.delete(client)) this.left()
    }
    const timer = setTimeout(() => {
      cutOff(client)
      gone()
    }, goodbye)
    client.once('end', gone)
  }

  /** Ends what `goodbye` does not end by itself: waits for every socket, and closes those that take too long. */
  async end (goodbyes: () => Promise<void>): Promise<void> {
    // Nobody waits any more for those that are still being opened.
    for (const client of this.#open) if (!this.#connections.has(client)) cutOff(client)
    const timer = setTimeout(() => { for (const client of this.#open) cutOff(client) }, goodbye)
    await goodbyes()
    await Promise.all(Array.from(this.#open, (client) => new Promise((resolve) => client.once('end', resolve))))
    clearTimeout(timer)
  }
}
