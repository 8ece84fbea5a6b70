import pg from 'pg'
import { ownFields } from '../../own-fields.ts'
import { readAnswersOf, type Answers } from '../../postgres/answers.ts'
import { queryUntraced } from '../../postgres/untraced-query.ts'
import { ServerParameters } from '../../pgbouncer/detect.ts'
import type { Host } from '../../postgres/host.ts'
import { type Hosts, timeoutOfOne } from '../../postgres/hosts.ts'
import { Connection, type ConnectionLimits, cutOff, type ScopeClient } from '../connection.ts'
import type { ConnectionSourceHost } from './connection-source.ts'
import { noteCutOff } from './cut-off.ts'
import { traceConnect } from './connect-trace.ts'

/** Method and route of the request whose batch is being answered, if a request sent it. */
function routeOf (client: pg.Client): string | undefined {
  // Private to pg.
  return (client as unknown as { _getActiveQuery (): { label?: { route: string } } | null })._getActiveQuery()
    ?.label?.route
}

/** Counts a connection to one of several hosts, until it ends. */
function follow (client: ScopeClient, place: Host, connection: Connection): void {
  place.connections++
  client.once('end', () => { place.connections-- })
  client.parameters.onRoleChange = () => connection.doubt()
}

/** How long a graceful end may take before the socket is closed. Milliseconds. */
const endTimeout = 1000

/** All clients of one source and their connections, from construction to the end of their sockets. */
export class Clients {
  readonly #host: ConnectionSourceHost
  readonly #limits: ConnectionLimits
  readonly #open = new Set<ScopeClient>()
  readonly #leaving = new Set<ScopeClient>()
  readonly #connections = new WeakMap<pg.ClientBase, Connection>()
  /** The class of the clients: pg.Pool, or the source itself, constructs them. */
  readonly Client: new (config?: pg.ClientConfig) => ScopeClient
  /** Called each time the socket of a leaving client is closed. */
  left: () => void = () => {}

  /** @param timeout how long opening a connection may take, in milliseconds */
  constructor (host: ConnectionSourceHost, limits: ConnectionLimits, timeout: number) {
    this.#host = host
    this.#limits = limits
    const { hosts } = host
    const attemptTimeout = timeoutOfOne(hosts, timeout)
    const open = this.#open
    const leave = (client: ScopeClient): void => this.leave(client)
    this.Client = class extends pg.Client {
      readonly baseline: Record<string, string>
      readonly parameters: ServerParameters
      readonly answers: Answers
      readonly place: Host | null
      /** Private to pg: false from makeRaw() on. */
      declare readonly pipeline: boolean
      outdated = false
      constructor (config?: pg.ClientConfig) {
        // Read for each new connection, as what is known about the pooler may change.
        const settings = host.baseline()
        const place = hosts === null ? null : hosts.next()
        const address = place === null ? {} : { host: place.host, port: place.port }
        // pg.Pool makes the password non-enumerable, so a spread would lose it.
        super(ownFields(config ?? {}, host.client, address, settings, { pipeline: true }) as pg.ClientConfig)
        this.place = place
        this.baseline = settings
        this.answers = readAnswersOf(this)
        this.parameters = new ServerParameters(this)
        open.add(this)
        this.once('end', () => open.delete(this))
        this.on('notice', (notice) => host.noticed(notice, routeOf(this)))
      }

      override connect (done?: (error: any, client: any) => void): any {
        if (done === undefined) return super.connect()
        const trace = traceConnect(host.engineIdentity)
        const opened = (error: Error | null, client?: pg.Client): void => {
          if (error != null) noteCutOff(this, error)
          // pg leaves the socket open if the login fails, because of the password for example.
          if (error != null) cutOff(this)
          if (error != null) trace?.fail(error)
          else trace?.succeed()
          done(error, client)
        }
        if (hosts === null) super.connect(opened)
        else this.#connectTo(hosts, this.place!, opened)
      }

      #connectTo (hosts: Hosts, place: Host, opened: (error: Error | null, client?: pg.Client) => void): void {
        const timer = setTimeout(() => cutOff(this, new Error(`no answer within ${attemptTimeout} ms`)), attemptTimeout)
        // It may die while it is asked.
        this.on('error', () => {})
        const settled = (error: Error | null): void => {
          clearTimeout(timer)
          if (error !== null) hosts.failed(place, error)
          opened(error, this)
        }
        super.connect((error: Error | null) => {
          if (error != null) return settled(error)
          hosts.accept(place, this, this.parameters.role).then(() => settled(null), settled)
        })
      }

      override query (config: any, values?: any, done?: any): any {
        // A client of lease(fn) is not pipelined: its queries are those of its user.
        return this.pipeline && done === undefined
          ? queryUntraced(this, config, values)
          : super.query(config, values, done)
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

  /** Clients that are being closed. The server counts each of them until it sees the end of the socket. */
  get leaving (): number {
    return this.#leaving.size
  }

  /** A client has logged in. */
  opened (client: ScopeClient): Connection {
    this.#host.counters.opened++
    const connection = new Connection(client, this.#limits, this.#host)
    if (client.outdated) connection.expiresAt = 0
    if (client.place !== null) follow(client, client.place, connection)
    this.#connections.set(client, connection)
    this.#host.connected(connection, client.parameters)
    return connection
  }

  /** From now on, no connection that is open or being opened serves a new session. */
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

  /** The client is being closed. Its socket is closed after `endTimeout`, as the server may never answer. */
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
    }, endTimeout)
    client.once('end', gone)
  }

  /**
   * Waits for all sockets to end, and closes those that take too long.
   *
   * @param endGracefully starts the end of idle ones
   */
  async end (endGracefully: () => Promise<void>): Promise<void> {
    // No session waits for those that are still being opened.
    for (const client of this.#open) if (!this.#connections.has(client)) cutOff(client)
    const timer = setTimeout(() => { for (const client of this.#open) cutOff(client) }, endTimeout)
    await endGracefully()
    await Promise.all(Array.from(this.#open, (client) => new Promise((resolve) => client.once('end', resolve))))
    clearTimeout(timer)
  }
}
