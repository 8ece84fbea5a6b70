import type pg from 'pg'
import { isPgScopeError } from '../errors.ts'
import { ownFields } from '../own-fields.ts'
import type { HostStats } from '../../types/engine.ts'
import type { TargetSessionAttrs } from '../../types/options.ts'
import { Host } from './host.ts'
import { failureReason } from './login.ts'
import { askLog, askRole, type Log, roleProblem, type ServerRole } from './server-role.ts'
import { failureKind } from './sqlstate.ts'

/** No host is left alone for longer while no host fits. Milliseconds. */
const longestSearch = 500

/** No host that failed is left alone for longer while another one fits. Milliseconds. */
const longestDelay = 10000

/** The server was reached, and is not what `targetSessionAttrs` asks for. */
class UnfitHost extends Error {}

/** Rejects if the server of a connection that has just logged in does not fit. @param announced by it at login */
export type CheckHost = (client: pg.Client, announced: ServerRole | null) => Promise<void>

/**
 * Several hosts, of which each new connection takes the first that fits
 * (https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-MULTIPLE-HOSTS). The pool and the connections
 * outside of it share what is known of them.
 *
 *     next() ─► login ─► accept() ─► used
 *       ▲         └─────────┴──────► failed()
 *       └── mayTry() ◄──────────────────┘   at once on another host; on the same one after a delay
 *
 * If the connections must accept writes, one host is in use, and tried first. Once another one has taken its place, its
 * connections serve no further session, and a server of an earlier timeline is refused: it has missed the failover
 * (https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-TIMELINES).
 */
export class Hosts {
  readonly all: readonly Host[]
  readonly wants: TargetSessionAttrs
  /** Called when another host than before is in use. */
  moved: (name: string, before: string) => void = () => {}
  readonly #isRandom: boolean
  /** The host in use; null: none so far, or there may be several. */
  #current: Host | null = null
  /** The newest log that a host in use has written. */
  #log: Log | null = null
  #timer: NodeJS.Timeout | undefined

  constructor (addresses: readonly { host: string, port: number }[], wants: TargetSessionAttrs, isRandom: boolean) {
    const mustWrite = wants === 'primary' || wants === 'read-write'
    this.all = addresses.map(({ host, port }) => new Host(host, port, mustWrite))
    this.wants = wants
    this.#isRandom = isRandom
  }

  get names (): string {
    return this.all.map(({ name }) => name).join(', ')
  }

  /** The host in use; otherwise the first one. */
  get main (): Host {
    return this.#current ?? this.all[0]!
  }

  /** What was tried and did not succeed; null if there is nothing. */
  get problems (): string | null {
    const failed = this.all.filter(({ problem }) => problem !== null)
    return failed.length === 0 ? null : failed.map(({ name, problem }) => `${name}: ${problem}`).join('; ')
  }

  stats (): HostStats[] {
    return this.all.map(({ name, connections, problem }) => ({ name, connections, problem }))
  }

  /** Whether a connection may be opened now. @param later called when one may be */
  mayTry (later: () => void): boolean {
    if (this.#choose() !== null) return true
    const delays = this.all.filter(({ attempts }) => attempts === 0).map((host) => host.dueIn(longestSearch))
    // A host that has failed since may be due earlier.
    clearTimeout(this.#timer)
    this.#timer = setTimeout(later, Math.ceil(Math.min(longestSearch, ...delays)))
    return false
  }

  /** The host of a connection that is opened now. accept() or failed() has to follow. */
  next (): Host {
    return this.#try(this.#choose() ?? this.all.reduce((one, other) =>
      other.dueIn(longestSearch) < one.dueIn(longestSearch) ? other : one))
  }

  #try (host: Host): Host {
    host.attempts++
    return host
  }

  /** The host for the next connection; null: every one has failed, and is left alone for a moment. */
  #choose (): Host | null {
    const longest = this.#isSearching ? longestSearch : longestDelay
    const order = this.#order()
    const hasFit = this.all.some(({ problem }) => problem === null)
    // A host that has failed is tried by one connection at a time; without one that fits, before a second choice.
    const due = order.find((host) => host.problem === null ||
      (host.attempts === 0 && (hasFit || !host.isSecondChoice) && host.dueIn(longest) === 0))
    return due ?? order.find(({ isSecondChoice }) => isSecondChoice) ?? null
  }

  /** Whether no host can be used, not even as a second choice. */
  get #isSearching (): boolean {
    return this.all.every(({ problem, isSecondChoice }) => problem !== null && !isSecondChoice)
  }

  /** In the order in which a new connection tries them. */
  #order (): Host[] {
    const current = this.#current
    if (current?.problem === null) return [current, ...this.all.filter((host) => host !== current)]
    return this.#isRandom ? shuffled(this.all) : [...this.all]
  }

  /** A connection has logged in. @throws if its server does not fit */
  async accept (host: Host, client: pg.Client, announced: ServerRole | null): Promise<void> {
    const problem = await this.#problemOf(host, client, announced)
    const others = this.all.filter((other) => other !== host)
    const isLast = this.wants === 'prefer-standby' && others.every((other) => other.problem !== null)
    if (problem !== null && !isLast) throw new UnfitHost(problem)
    host.attempts--
    host.used(problem)
    if (host.mustWrite && !this.#isRandom && host !== this.#current) this.#move(host, others)
  }

  async #problemOf (host: Host, client: pg.Client, announced: ServerRole | null): Promise<string | null> {
    if (this.wants === 'any') return null
    const fits = announced !== null && !host.isDoubted && roleProblem(this.wants, announced) === null
    // A pooler may announce what its server was before it was promoted, so a server is only refused by its own answer.
    const problem = fits ? null : roleProblem(this.wants, await askRole(client))
    if (problem !== null) return problem
    host.isDoubted = false
    return host.mustWrite && !this.#isRandom && host !== this.#current ? await this.#logProblem(client) : null
  }

  /** Whether the server has missed a failover. */
  async #logProblem (client: pg.Client): Promise<string | null> {
    const log = await askLog(client)
    if (log === null) return null
    const known = this.#log
    if (known?.system === log.system && log.timeline < known.timeline) {
      return `it is a former primary: it writes timeline ${log.timeline}, and the newest one is ${known.timeline}`
    }
    this.#log = log
    return null
  }

  #move (host: Host, others: readonly Host[]): void {
    const before = this.#current
    this.#current = host
    for (const other of others) other.isLeft = true
    if (before !== null) this.moved(host.name, before.name)
  }

  /** A connection could not be opened, or was not accepted. */
  failed (host: Host, error: unknown): void {
    host.attempts--
    const isUnfit = error instanceof UnfitHost
    const isSecondChoice = isUnfit && this.wants === 'prefer-standby'
    host.failed(failureReason(error), isSecondChoice)
    if (isUnfit && !isSecondChoice) host.isLeft = true
  }

  /** Whether another host may succeed where this one has failed. A login that is refused is so everywhere. */
  isRetried (error: unknown): boolean {
    return failureKind(error) !== 'login'
  }

  /**
   * Whether a session waits for another attempt. If it must write, a primary may be promoted meanwhile; otherwise there
   * must be a host that was not tried since it failed.
   */
  isAwaited (error: unknown): boolean {
    return this.isRetried(error) && (this.all[0]!.mustWrite || this.#choose() !== null)
  }

  /** No connection is opened any more. */
  stop (): void {
    clearTimeout(this.#timer)
  }

  /**
   * Tries the hosts one after the other.
   *
   * @throws the error of the last one; one of this package, and that of a refused login, at once
   */
  async tryEach<T> (
    config: pg.ClientConfig, open: (config: pg.ClientConfig, check: CheckHost) => Promise<T>
  ): Promise<T> {
    let last: unknown
    for (const host of this.#eachOnce()) {
      const { host: name, port } = this.#try(host)
      let isAccepted = false
      try {
        return await open(ownFields<pg.ClientConfig>(config, { host: name, port }), async (client, announced) => {
          await this.accept(host, client, announced)
          isAccepted = true
        })
      } catch (error) {
        if (!isAccepted) this.failed(host, error)
        if (isPgScopeError(error) || !this.isRetried(error)) throw error
        last = error
      }
    }
    throw last
  }

  /** All hosts; then, as no standby was found, the primaries among them. */
  * #eachOnce (): Generator<Host> {
    const order = this.#order()
    yield * order
    yield * order.filter(({ isSecondChoice }) => isSecondChoice)
  }
}

function shuffled<T> (items: readonly T[]): T[] {
  return items.map((item) => ({ item, at: Math.random() })).sort((one, other) => one.at - other.at)
    .map(({ item }) => item)
}

const accepted: CheckHost = async () => {}

/** The hosts of a configuration; null: it has one, which may be anything. */
export function hostsOf (config: pg.ClientConfig): Hosts | null {
  return (config as { hosts?: Hosts | undefined }).hosts ?? null
}

/** How long opening a connection to one of the hosts may take, so that each is tried within `timeout` milliseconds. */
export function timeoutOfOne (hosts: Hosts | null, timeout: number): number {
  return Math.ceil(timeout / (hosts?.all.length ?? 1))
}

/** Opens a connection on the first host of a configuration that fits. `open` has to call `check` after the login. */
export async function onSomeHost<T> (
  config: pg.ClientConfig, open: (config: pg.ClientConfig, check: CheckHost) => Promise<T>
): Promise<T> {
  const hosts = hostsOf(config)
  return hosts === null ? await open(config, accepted) : await hosts.tryEach(config, open)
}
