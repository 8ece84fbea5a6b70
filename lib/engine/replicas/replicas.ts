import type { ReplicaStats } from '../../../types/engine.ts'
import { checkReplicaUrls, replicaServers } from '../../config/replica-policy.ts'
import { isPgScopeError } from '../../errors.ts'
import type { Replica as Destination, ReplicaChoice } from '../../exchange/replica-route.ts'
import { isPromiseLike } from '../../kind-of.ts'
import type { WalPosition } from '../../postgres/wal-position.ts'
import { letExit } from '../../process-exit.ts'
import { Replica, type ReplicaHost } from './replica.ts'

/** How long the boot waits for replicas. Milliseconds. */
const bootTimeout = 2000

/** The time between two calls of the function `replicas`. Milliseconds. */
const refreshInterval = 10000

/**
 * The replicas of an engine. It follows the function `replicas`, if it is one, and chooses a replica for each
 * read-only transaction.
 */
export class Replicas implements ReplicaChoice {
  readonly #host: ReplicaHost
  #all: readonly Replica[] = []
  /** Those that were removed, until their last session has ended. */
  readonly #leaving = new Set<Replica>()
  /** Those of #all whose last check found no problem. */
  #usable: readonly Replica[] = []
  #timer: NodeJS.Timeout | undefined
  #isStarted = false
  #isClosed = false
  /** It was logged that a position belongs to another system. */
  #hasIgnored = false
  /** The function `replicas` has failed, and its failure is logged. */
  #isFailing = false

  constructor (host: Omit<ReplicaHost, 'changed'>) {
    this.#host = { ...host, changed: () => this.#changed() }
  }

  /**
   * Checks all replicas. What cannot be reached is logged, and checked again later.
   *
   * @throws FST_PG_SCOPE_OPTIONS if the function `replicas` does not return URLs
   */
  async start (): Promise<void> {
    this.#isStarted = true
    const { servers } = this.#host.options.replicas!
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<void>((resolve) => { timer = setTimeout(resolve, bootTimeout) })
    try {
      const ready = this.#refresh().catch((error) => {
        if (isPgScopeError(error)) throw error
        this.#failed(error)
      })
      await Promise.race([ready, late])
    } finally {
      clearTimeout(timer)
      if (typeof servers === 'function') this.#refreshLater()
    }
  }

  get followsWrites (): boolean {
    return this.#host.options.replicas!.readYourWrites !== null
  }

  choose (left: readonly Destination[], notBefore: WalPosition | null, keepsSnapshot: boolean): Replica | null {
    if (!this.#isStarted) this.start().catch((error) => this.#failed(error))
    let usable = left.length === 0 ? this.#usable : this.#usable.filter((replica) => !left.includes(replica))
    if (notBefore !== null && !this.#isForeign(notBefore)) {
      usable = usable.filter((replica) => replica.knows(notBefore) && replica.mayPass(notBefore, keepsSnapshot))
    }
    const { length } = usable
    if (length < 2) return usable[0] ?? null
    // The less loaded of two: nearly as good as the least loaded of all, and many processes do not all choose the same.
    const first = Math.floor(Math.random() * length)
    const second = (first + 1 + Math.floor(Math.random() * (length - 1))) % length
    const [one, other] = [usable[first]!, usable[second]!]
    return one.load <= other.load ? one : other
  }

  /** The position belongs to another system: it says nothing about these replicas. */
  #isForeign ({ system }: WalPosition): boolean {
    const systems = this.#usable.map((replica) => replica.system).filter((known) => known !== null)
    if (systems.length === 0 || systems.includes(system)) return false
    if (!this.#hasIgnored) this.#host.log.warn({ system }, 'a position of another PostgreSQL system is ignored')
    this.#hasIgnored = true
    return true
  }

  async #refresh (): Promise<void> {
    const { options: { replicas, client } } = this.#host
    const { servers } = replicas!
    if (typeof servers !== 'function') return await this.#follow(servers)
    const answer = servers()
    const urls = checkReplicaUrls(isPromiseLike(answer) ? await answer : answer, client)
    this.#isFailing = false
    await this.#follow(urls)
  }

  /** Uses these servers, and no others. Resolves when the new ones are checked. */
  async #follow (urls: readonly string[]): Promise<void> {
    if (this.#isClosed) return
    const known = this.#all
    const { client } = this.#host.options
    this.#all = Array.from(replicaServers(urls, client), ([key, config]) =>
      known.find((replica) => replica.key === key) ?? new Replica(key, config, this.#host))
    for (const replica of known) {
      if (this.#all.includes(replica)) continue
      this.#leaving.add(replica)
      replica.leave().finally(() => this.#leaving.delete(replica))
    }
    this.#changed()
    await Promise.all(this.#all.map((replica) => known.includes(replica) ? null : replica.begin()))
  }

  #refreshLater (): void {
    if (this.#isClosed) return
    this.#timer = setTimeout(() => {
      this.#refresh().catch((error) => this.#failed(error)).finally(() => this.#refreshLater())
    }, refreshInterval * (1 - Math.random() / 10))
    letExit(this.#timer)
  }

  /** The function `replicas` has failed: the servers that are known stay. */
  #failed (error: unknown): void {
    if (this.#isFailing) return
    this.#isFailing = true
    this.#host.log.error({ err: error }, 'the function `replicas` has failed: its earlier result stays')
  }

  #changed (): void {
    this.#usable = this.#all.filter(({ problem }) => problem === null)
  }

  stats (): ReplicaStats[] {
    return this.#all.map((replica) => replica.stats())
  }

  async reset (): Promise<void> {
    await Promise.all(this.#all.map((replica) => replica.reset()))
  }

  async close (): Promise<void> {
    this.#isClosed = true
    clearTimeout(this.#timer)
    this.#usable = []
    await Promise.all([...this.#all, ...this.#leaving].map((replica) => replica.close()))
  }
}
