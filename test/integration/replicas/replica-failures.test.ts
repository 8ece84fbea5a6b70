import { randomUUID } from 'node:crypto'
import t from 'tap'
import { openLoggedApp, type LoggedApp, type LoggedAppOptions } from '../../../harness/logged-app.ts'
import { startPgBouncer } from '../../../harness/pgbouncer.ts'
import { startPgProxy } from '../../../harness/pg-proxy.ts'
import { startCluster } from '../../../harness/standby.ts'
import { waitFor } from '../../../harness/wait-for.ts'
import { openSandbox } from '../../../lib/testing/index.ts'
import type { PgScopeOptions } from '../../../harness/plugin.ts'
import type { Test } from 'tap'

const { primary, standbys: [standby], addStandby } = await startCluster(t)
const replica = standby!
await primary.query('CREATE TABLE item (n int)')
await replica.caughtUp()

interface Line { msg: string, problem?: string, err?: { code: string } }
const where = "SELECT current_setting('cluster_name') AS name"
const unused = 'postgres://127.0.0.1:9/postgres'

async function open (t: Test, plugin: PgScopeOptions, options: LoggedAppOptions = {}): Promise<LoggedApp<Line>> {
  const all = { replicas: [replica.connectionString], ...plugin }
  const opened = await openLoggedApp<Line>(primary.connectionString, { ...options, plugin: all })
  t.teardown(() => opened.app.close())
  return opened
}

const reader = ({ app }: LoggedApp<Line>, options: object = {}) => () => app.db.scope(async (session) =>
  (await session.query(where)).rows[0].name as string, { readOnly: true, ...options })

t.test('a replica that cannot be reached at boot is logged, and the primary serves', async (t) => {
  const opened = await open(t, { replicas: [unused] })
  t.equal(await reader(opened)(), 'primary')
  t.match(opened.log.filter(({ msg }) => msg === 'the replica is not used'), [{ level: 40, problem: /ECONNREFUSED/ }])
  t.match(opened.app.db.stats().replicas, [{ name: '127.0.0.1:9/postgres', inUse: false, problem: /cannot be reached/, lag: null }])
  await t.rejects(reader(opened, { fallback: false })(), { code: 'FST_PG_SCOPE_NO_REPLICA', statusCode: 503, headers: { 'retry-after': '1' } })
  await t.rejects(reader(opened, { fallback: false, mode: 'autocommit' })(), { code: 'FST_PG_SCOPE_NO_REPLICA' })
})

t.test('without startupCheck the first reads go to the primary, until a replica was checked', async (t) => {
  const opened = await open(t, { startupCheck: false })
  t.equal(opened.app.db.stats().replicas.length, 0)
  t.equal(await reader(opened)(), 'primary')
  await waitFor(async () => await reader(opened)() === 'standby_1')
})

t.test('a replica that crashes fails no request, and is used again when it is back', async (t) => {
  const opened = await open(t, {})
  const read = reader(opened)
  t.equal(await read(), 'standby_1')
  const seen: string[] = []
  const end = new AbortController()
  const load = Promise.all(Array.from({ length: 5 }, async () => {
    while (!end.signal.aborted) seen.push(await read())
  }))
  await replica.restart('immediate')
  await waitFor(() => seen.includes('primary') && seen.at(-1) === 'standby_1')
  end.abort()
  await load
  t.match(opened.log.map(({ msg }) => msg).filter((msg) => msg.startsWith('the replica')), ['the replica is used', 'the replica is not used', 'the replica is used'])
})

t.test('reads that wait for a replica that falls silent go to the primary, and it is used again later', async (t) => {
  const proxy = await startPgProxy(t, replica)
  const replicas = [proxy.connectionString(replica.connectionString)]
  const opened = await open(t, { replicas, pool: { max: 1, acquireTimeout: 60000 } })
  const read = reader(opened)
  t.equal(await read(), 'standby_1')
  proxy.pause()
  await using holder = opened.app.db.session({ readOnly: true })
  const held = holder.query(where).catch(() => {})
  const waiting = [read(), read()]
  t.same(await Promise.all(waiting), ['primary', 'primary'])
  t.equal(await read(), 'primary')
  proxy.resume()
  await held
  await holder.close()
  await waitFor(async () => await read() === 'standby_1')
})

t.test('a replica that is further behind than maxLag is not used until it has caught up', async (t) => {
  const opened = await open(t, { maxLag: 200 })
  const read = reader(opened)
  await waitFor(async () => await read() === 'standby_1')
  await replica.pause()
  await primary.query('INSERT INTO item VALUES (1)')
  await waitFor(async () => await read() === 'primary')
  t.match(opened.app.db.stats().replicas, [{ inUse: false, problem: /behind \(`maxLag`: 200\)/, lag: Number }])
  await replica.resume()
  await waitFor(async () => await read() === 'standby_1')
})

t.test('a primary is not taken for a replica, and neither is a standby that was promoted', async (t) => {
  const other = await addStandby()
  const opened = await open(t, { replicas: [primary.connectionString, other.connectionString] })
  const read = reader(opened)
  t.match(opened.app.db.stats().replicas, [{ inUse: false, problem: /not in recovery/ }, { inUse: true }])
  t.equal(await read(), 'standby_2')
  await other.promote()
  await waitFor(async () => await read() === 'primary')
  t.match(opened.app.db.stats().replicas, [{ inUse: false }, { inUse: false, problem: /not in recovery/ }])
  await other.stop()
})

t.test('a function names the replicas: it may be async, and its failure changes nothing', async (t) => {
  let calls = 0
  const url = replica.connectionString
  const opened = await open(t, { replicas: async () => { calls++; return [url, url] } })
  t.equal(calls, 1)
  t.equal(await reader(opened)(), 'standby_1')
  t.equal(opened.app.db.stats().replicas.length, 1, 'a server that is named twice is one replica')

  const failing = await open(t, { replicas: () => { throw new Error('no DNS') } })
  t.equal(await reader(failing)(), 'primary')
  t.match(failing.log.filter(({ msg }) => msg.startsWith('the function `replicas` has failed')), [{ err: { message: 'no DNS' } }])

  for (const [urls, details] of [
    ['postgres://one', /`replicas` must be a function that returns an array of non-empty strings/],
    [[7], /`replicas` must be/],
    [['mysql://h/d'], /`replicas\[0\]` must be a URL/]
  ] as const) {
    await t.rejects(open(t, { replicas: () => urls as never }), { code: 'FST_PG_SCOPE_OPTIONS', details })
  }
})

t.test('a PgBouncer may stand in front of a replica', async (t) => {
  const pooler = await startPgBouncer(t, replica)
  const opened = await open(t, { replicas: [pooler.connectionString], statementTimeout: 5000 })
  const read = reader(opened, { settings: { search_path: 'public' } })
  t.same(await Promise.all(Array.from({ length: 30 }, read)), Array(30).fill('standby_1'))
  t.match(opened.app.db.stats().replicas, [{ inUse: true }])
  t.match(opened.app.db.pooler, { kind: 'none' }, 'the primary has none')
})

t.test('what belongs to a server connection is refused where a PgBouncer stands in front of a replica only', async (t) => {
  const pooler = await startPgBouncer(t, replica)
  const { app } = await open(t, { replicas: [pooler.connectionString] })
  const lock = 'SELECT pg_advisory_lock_shared(1)'
  for (const mode of ['transaction', 'autocommit'] as const) {
    await t.rejects(app.db.scope((session) => session.query(lock), { readOnly: true, mode }), { code: 'FST_PG_SCOPE_POOLER_UNSUPPORTED' })
    await app.db.scope((session) => session.query(lock), { mode })
  }
})

t.test('in a sandbox reads are part of its transaction', async (t) => {
  const opened = await open(t, {})
  const { app } = opened
  const sandbox = await openSandbox(app)
  const name = randomUUID()
  await app.db.query(`CREATE TABLE "${name}" (n int)`)
  t.same(await app.db.scope(async (session) => (await session.query(`SELECT n FROM "${name}"`)).rows, { readOnly: true }), [])
  await sandbox.close()
  t.equal(await reader(opened)(), 'standby_1')
})

t.test('close() ends the connections to replicas, too', async (t) => {
  const opened = await open(t, { pool: { min: 1 }, applicationName: 'closing' })
  await reader(opened)()
  const count = async (): Promise<number> =>
    (await replica.query("SELECT count(*)::int AS n FROM pg_stat_activity WHERE application_name = 'closing'")).rows[0]!.n
  t.ok(await count() >= 2, 'the pool, and the connection of the checks')
  await opened.app.close()
  await waitFor(async () => await count() === 0)
})
