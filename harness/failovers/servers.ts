import { startPgProxy, type PgProxy, type Teardown } from '../pg-proxy.ts'
import { type Cluster, type ClusterServer, type Standby, startCluster } from '../standby.ts'
import { waitFor } from '../wait-for.ts'

/** Milliseconds. */
const timeout = 60_000

/** Three addresses that stay, as those of machines do, and the server that runs behind each. */
export class Servers {
  readonly addresses: readonly PgProxy[]
  readonly #cluster: Cluster
  readonly #placed: ClusterServer[]
  /** Places: of the primary, of the synchronous standby, and of the other one, which follows the synchronous one. */
  #primary = 0
  #next = 1
  #last = 2

  /** A primary, a synchronous standby, and another one, which follows that one so that it is never ahead of it. */
  static async start (t: Teardown): Promise<Servers> {
    const settings = { synchronous_commit: 'on', wal_retrieve_retry_interval: '200ms' }
    const cluster = await startCluster(t, { standbys: 2, settings })
    const all: ClusterServer[] = [cluster.primary, ...cluster.standbys]
    const addresses = []
    for (const server of all) addresses.push(await startPgProxy(t, server))
    const servers = new Servers(cluster, all, addresses)
    await servers.#arrange()
    return servers
  }

  private constructor (cluster: Cluster, placed: ClusterServer[], addresses: readonly PgProxy[]) {
    this.#cluster = cluster
    this.#placed = placed
    this.addresses = addresses
  }

  get primary (): ClusterServer {
    return this.#placed[this.#primary]!
  }

  /** The standby that is promoted next: it has everything that was acknowledged. */
  get next (): Standby {
    return this.#placed[this.#next] as Standby
  }

  /** The address of the primary. */
  get address (): PgProxy {
    return this.addresses[this.#primary]!
  }

  /** Promotes the synchronous standby. @returns performance.now() when it was told to */
  async promote (): Promise<number> {
    const began = performance.now()
    await this.next.promote()
    return began
  }

  /** After a promotion: a new standby takes the place of the former primary, which is stopped. */
  async rebuild (): Promise<void> {
    await this.primary.stop()
    const former = this.#primary
    const address = this.addresses[former]!
    this.#primary = this.#next
    this.#next = this.#last
    this.#last = former
    const standby = await this.#cluster.addStandby(this.primary)
    this.#placed[former] = standby
    address.redirect(standby)
    address.refuse(false)
    await this.#arrange()
  }

  /** The last standby follows the next primary, and commits are acknowledged when that one has them. */
  async #arrange (): Promise<void> {
    const { primary, next } = this
    const { host, port, user, password } = next
    const last = this.#placed[this.#last]!
    await set(last, 'primary_conninfo',
      `host=${host} port=${port} user=${user} password=${password} application_name=${last.name}`)
    await set(primary, 'synchronous_standby_names', next.name)
    await waitFor(async () => (await primary.query(
      "SELECT FROM pg_stat_replication WHERE sync_state = 'sync' AND state = 'streaming'")).rowCount === 1, { timeout })
    await waitFor(async () => (await next.query("SELECT FROM pg_stat_replication WHERE state = 'streaming'")).rowCount, { timeout })
  }
}

async function set (server: ClusterServer, setting: string, value: string): Promise<void> {
  await server.query(`ALTER SYSTEM SET ${setting} = '${value}'`)
  await server.query('SELECT pg_reload_conf()')
}
