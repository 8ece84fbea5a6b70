import { createServer } from 'node:net'
import { once } from 'node:events'
import { closeQuietly } from './pg-proxy/closing.ts'
import { Link } from './pg-proxy/link.ts'
import { Tally } from './pg-proxy/tally.ts'
import { Trap } from './pg-proxy/trap.ts'
import type { AddressInfo, Server, Socket } from 'node:net'
import type { Network } from './pg-proxy/pipe.ts'
import type { CutOnOptions, CutOptions, StatementMatch, TearOptions } from './pg-proxy/trap.ts'

export interface Teardown {
  teardown: (fn: () => unknown) => unknown
}

export interface PgProxyOptions {
  /** Milliseconds, one way. Default 0. */
  delay?: number
}

/**
 * A TCP proxy in front of PostgreSQL or PgBouncer, which counts what crosses it and can slow, hold or cut it. The
 * counters (see Tally) stand on the proxy for all connections together, and in `perConnection` for each by itself.
 */
export class PgProxy extends Tally {
  readonly host = '127.0.0.1'
  readonly #server: Server
  readonly #network: Network = { delay: 0, traffic: 'flowing' }
  readonly #traps: Trap[] = []
  readonly #links = new Set<Link>()
  #upstream: { host: string, port: number }
  #tallies = new Map<number, Tally>()
  #newcomers: 'accepted' | 'refused' = 'accepted'
  #cancelDelay = 0
  #lastId = 0
  #port = 0

  constructor (upstream: { host: string, port: number }, options: PgProxyOptions = {}) {
    super()
    this.#upstream = { host: upstream.host, port: upstream.port }
    this.#network.delay = options.delay ?? 0
    this.#server = createServer({ allowHalfOpen: true, noDelay: true }, socket => this.#accept(socket))
  }

  get port (): number { return this.#port }

  /** Connections open at this moment, on either side. */
  get open (): number { return this.#links.size }

  /** By connection id, which goes up from 1 and never starts again. */
  get perConnection (): ReadonlyMap<number, Tally> { return this.#tallies }

  async listen (): Promise<this> {
    this.#server.listen(0, this.host)
    await once(this.#server, 'listening')
    this.#port = (this.#server.address() as AddressInfo).port
    return this
  }

  /** The given URL with this proxy's host and port. */
  connectionString (base: string): string {
    const url = new URL(base)
    // pg lets these parameters win over the address before them.
    for (const name of ['host', 'port']) url.searchParams.delete(name)
    url.hostname = this.host
    url.port = String(this.port)
    return url.href
  }

  override reset (): void {
    super.reset()
    this.#tallies = new Map([...this.#links].map(link => [link.id, link.tally]))
    for (const tally of this.#tallies.values()) tally.reset()
  }

  /** One way: a round trip takes twice as long. */
  delay (milliseconds: number): void {
    this.#network.delay = milliseconds
  }

  /** How much longer than everything else a CancelRequest is on its way. Milliseconds. */
  delayCancels (milliseconds: number): void {
    this.#cancelDelay = milliseconds
  }

  /**
   * Nothing passes any more, either way, closing included. With `drop` it is lost for good, and a connection that lost
   * something stays silent after `resume()`: a hole in its stream would be another failure.
   */
  pause (options: { drop?: boolean } = {}): void {
    this.#network.traffic = options.drop ? 'discarded' : 'held'
    for (const link of this.#links) link.drain()
  }

  resume (): void {
    this.#network.traffic = 'flowing'
    for (const link of this.#links) link.drain()
  }

  /** Closes all connections on both sides, now. */
  cut (options: CutOptions = {}): void {
    for (const link of this.#links) link.cut(options)
  }

  /** Passes on half of the next bytes of each connection, mostly in the middle of a message. */
  tear (options: TearOptions): void {
    for (const link of this.#links) link.tear(options)
  }

  /** Cuts a connection on which the client sends a statement that matches. */
  cutOn (match: StatementMatch, options: CutOnOptions = {}): Trap {
    const trap = new Trap(match, options)
    this.#traps.push(trap)
    return trap
  }

  /** Whether new connections are closed as soon as they are accepted. */
  refuse (refused = true): void {
    this.#newcomers = refused ? 'refused' : 'accepted'
  }

  /** Leads new connections somewhere else, as a name in the DNS does; those that are open stay where they are. */
  redirect (upstream: { host: string, port: number }): void {
    this.#upstream = { host: upstream.host, port: upstream.port }
  }

  async close (): Promise<void> {
    for (const link of this.#links) link.destroy()
    if (!this.#server.listening) return
    this.#server.close()
    await once(this.#server, 'close')
  }

  #accept (socket: Socket): void {
    if (this.#newcomers === 'refused') {
      socket.on('error', () => {})
      closeQuietly(socket)
      return
    }
    const context = {
      network: this.#network,
      total: this,
      traps: this.#traps,
      upstream: this.#upstream,
      cancelDelay: () => this.#cancelDelay
    }
    const link = new Link(++this.#lastId, socket, context, closed => this.#links.delete(closed))
    this.#links.add(link)
    this.#tallies.set(link.id, link.tally)
  }
}

export async function startPgProxy (
  t: Teardown | null,
  upstream: { host: string, port: number },
  options: PgProxyOptions = {}
): Promise<PgProxy> {
  const proxy = await new PgProxy(upstream, options).listen()
  t?.teardown(() => proxy.close())
  return proxy
}
