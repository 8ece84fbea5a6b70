import { observed, type Server, startServer } from '../reliability/server.ts'
import { startCluster } from '../standby.ts'

interface Teardown {
  teardown (callback: () => unknown): unknown
}

/** The server that the app works on, and perhaps a standby. */
export interface Servers {
  readonly current: Server
  /** The standby takes over from a primary that stops. Null where there is none. */
  readonly failOver: (() => Promise<void>) | null
}

/** A server whose commits survive a crash. */
export async function singleServer (t: Teardown): Promise<Servers> {
  const current = await startServer()
  t.teardown(() => current.stop())
  return { current, failOver: null }
}

/** A primary with a synchronous standby. */
export async function clusterServers (t: Teardown): Promise<Servers> {
  const settings = { synchronous_commit: 'on', wal_retrieve_retry_interval: '200ms' }
  const { primary, standbys: [standby] } = await startCluster(t, { settings })
  let current = observed(primary)
  // Not before the standby is copied: it has no standby of its own.
  await current.query("ALTER SYSTEM SET synchronous_standby_names = '*'")
  await current.query('SELECT pg_reload_conf()')
  return {
    get current () { return current },
    async failOver () {
      await primary.stop()
      await standby!.promote()
      current = observed(standby!)
    }
  }
}
