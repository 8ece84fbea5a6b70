import t from 'tap'
import { openLoggedApp } from '../../../harness/logged-app.ts'
import { startPgBouncer } from '../../../harness/pgbouncer.ts'
import { startPgProxy } from '../../../harness/pg-proxy.ts'
import { startCluster, type ClusterServer, type Standby } from '../../../harness/standby.ts'
import { strategies } from '../../../harness/variant.ts'
import { waitFor } from '../../../harness/wait-for.ts'
import type { FastifyInstance } from 'fastify'
import type { Test } from 'tap'

const { primary, standbys, addStandby } = await startCluster(t, { settings: { synchronous_commit: 'on' } })
const [first] = standbys
await primary.query('CREATE TABLE item (n int PRIMARY KEY)')
await first!.caughtUp()

/** A URL with the hosts and ports of these servers. */
function url (servers: { port: number }[], wants: string): string {
  const { user, password, database } = primary
  const hosts = servers.map(({ port }) => `127.0.0.1:${port}`).join(',')
  return `postgres://${user}:${password}@${hosts}/${database}?target_session_attrs=${wants}`
}

/** From now on its commits are acknowledged when the standby has them. */
async function waitForStandby (server: ClusterServer, { name }: Standby): Promise<void> {
  await server.query(`ALTER SYSTEM SET synchronous_standby_names = '${name}'`)
  await server.query('SELECT pg_reload_conf()')
  await waitFor(async () => (await server.query("SELECT sync_state FROM pg_stat_replication WHERE sync_state = 'sync'")).rowCount)
}

let last = 0
const insert = (app: FastifyInstance, n: number): Promise<unknown> =>
  app.db.scope((session) => session.query('INSERT INTO item VALUES ($1)', [n]))

interface Load {
  readonly apps: FastifyInstance[]
  readonly acknowledged: number[]
  readonly failures: { code?: string }[]
  /** Resolves when each app has written again. */
  progress (): Promise<void>
  end (): Promise<void>
}

/** Apps with each strategy, whose sessions and single statements write as fast as they can. */
async function startLoad (t: Test, connectionString: string): Promise<Load> {
  const acknowledged: number[] = []
  const failures: { code?: string }[] = []
  const apps: FastifyInstance[] = []
  const ending = new AbortController()
  const counts: number[] = []
  for (const strategy of strategies) {
    const pool = { strategy, max: 4, acquireTimeout: 60000 }
    const { app } = await openLoggedApp(connectionString, { plugin: { pool } })
    t.teardown(() => app.close())
    apps.push(app)
  }
  const write = async (i: number, write: (n: number) => Promise<unknown>): Promise<void> => {
    while (!ending.signal.aborted) {
      const n = ++last
      await write(n).then(() => {
        acknowledged.push(n)
        counts[i] = (counts[i] ?? 0) + 1
      }, (error) => { failures.push(error) })
    }
  }
  const running = apps.flatMap((app, i) => [
    write(i, (n) => insert(app, n)),
    write(i, (n) => insert(app, n)),
    write(i, (n) => app.db.query('INSERT INTO item VALUES ($1)', [n]))
  ])
  return {
    apps,
    acknowledged,
    failures,
    progress: async () => {
      const before = apps.map((_app, i) => counts[i] ?? 0)
      await waitFor(() => before.every((count, i) => (counts[i] ?? 0) > count + 5), { timeout: 60000, message: 'progress' })
    },
    end: async () => {
      ending.abort()
      await Promise.all(running)
    }
  }
}

async function missingOn (server: ClusterServer, acknowledged: number[]): Promise<number[]> {
  const { rows } = await server.query<{ n: number }>('SELECT n FROM item')
  const there = new Set(rows.map(({ n }) => n))
  return acknowledged.filter((n) => !there.has(n))
}

t.test('a planned switchover behind PgBouncer (PAUSE, RESUME) fails no request, although it leads to a standby at first', async (t) => {
  await waitForStandby(primary, first!)
  const proxy = await startPgProxy(t, primary)
  const pooler = await startPgBouncer(t, { ...primary, port: proxy.port })
  const load = await startLoad(t, url([pooler], 'primary'))
  await load.progress()
  await pooler.pause()
  proxy.redirect(first!)
  await pooler.resume()
  await waitFor(() => load.apps.every((app) => app.db.stats().hosts[0]!.problem?.includes('standby')), { timeout: 60000 })
  await first!.promote()
  await load.progress()
  await load.end()
  t.same(load.failures, [])
  t.same(await missingOn(first!, load.acknowledged), [])
})

t.test('a primary is cut off and its standby promoted: nothing acknowledged is lost, and the former primary is never written to again', async (t) => {
  const standby = await addStandby(first)
  await waitForStandby(first!, standby)
  const [old, next] = [await startPgProxy(t, first!), await startPgProxy(t, standby)]
  const load = await startLoad(t, url([old, next], 'primary'))
  await load.progress()
  old.refuse()
  old.cut()
  await waitFor(() => load.apps.every((app) => app.db.stats().hosts[1]!.problem?.includes('standby')), { timeout: 60000 })
  await standby.promote()
  await load.progress()
  await load.end()
  const codes = new Set(load.failures.map(({ code }) => code))
  for (const code of ['FST_PG_SCOPE_CONNECTION_LOST', 'FST_PG_SCOPE_COMMIT_UNKNOWN']) codes.delete(code)
  t.same([...codes], [], 'only what was in progress has failed')
  t.same(await missingOn(standby, load.acknowledged), [])

  old.refuse(false)
  next.refuse()
  next.cut()
  const [app] = load.apps
  const n = ++last
  const waiting = insert(app!, n)
  await waitFor(() => app!.db.stats().hosts[0]!.problem?.includes('former primary'), { timeout: 60000 })
  next.refuse(false)
  await waiting
  t.same(await missingOn(first!, [n]), [n])
  t.same(await missingOn(standby, [n]), [])
  t.match(app!.db.stats().hosts, [{ connections: 0, problem: /former primary/ }, { problem: null }])
})

t.test('a planned switchover by default_transaction_read_only, without a pooler, fails no request', async (t) => {
  const [, before] = standbys
  const standby = await addStandby(before)
  const load = await startLoad(t, url([before!, standby], 'read-write'))
  await load.progress()
  await before!.query('ALTER SYSTEM SET default_transaction_read_only = on')
  await before!.query('SELECT pg_reload_conf()')
  await waitFor(() => load.apps.every((app) => app.db.stats().hosts[0]!.problem?.includes('read-only')), { timeout: 60000 })
  await waitFor(async () => (await before!.query(`SELECT FROM pg_stat_activity
    WHERE state <> 'idle' AND backend_type = 'client backend' AND pid <> pg_backend_pid()`)).rowCount === 0)
  await standby.caughtUp()
  await before!.stop()
  await standby.promote()
  await load.progress()
  await load.end()
  t.same(load.failures, [])
  t.same(await missingOn(standby, load.acknowledged), [])
})
