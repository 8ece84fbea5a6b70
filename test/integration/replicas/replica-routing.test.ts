import Fastify, { type FastifyInstance } from 'fastify'
import t from 'tap'
import promClient from 'prom-client'
import pgScope, { type PgScopeOptions } from '../../../harness/plugin.ts'
import { startCluster } from '../../../harness/standby.ts'
import { strategies } from '../../../harness/variant.ts'
import { registerMetrics } from '../../../lib/metrics/index.ts'
import type { Test } from 'tap'

const { primary, standbys } = await startCluster(t, { standbys: 2 })
const replicas = standbys.map(({ connectionString }) => connectionString)
await primary.query('CREATE TABLE item (n int)')
for (const standby of standbys) await standby.caughtUp()

const where = "SELECT current_setting('cluster_name') AS name"
const place = ({ rows }: { rows: { name: string }[] }): string => rows[0]!.name

async function open (t: Test, options: PgScopeOptions = {}): Promise<FastifyInstance> {
  const app = Fastify() as unknown as FastifyInstance
  t.teardown(() => app.close())
  await app.register(pgScope, { connectionString: primary.connectionString, replicas, ...options })
  return app
}

for (const strategy of strategies) {
  t.test(`${strategy}: read-only routes and scopes run on a replica, everything else on the primary`, async (t) => {
    const app = await open(t, { pool: { strategy } })
    const routes: [string, object, string | RegExp][] = [
      ['/write', {}, 'primary'],
      ['/read', { readOnly: true }, /^standby_[12]$/],
      ['/repeatable', { readOnly: true, isolation: 'repeatable read' }, /^standby_[12]$/],
      ['/serializable', { readOnly: true, isolation: 'serializable' }, 'primary'],
      ['/here', { readOnly: true, replica: false }, 'primary'],
      ['/autocommit', { readOnly: true, mode: 'autocommit' }, /^standby_[12]$/],
      ['/autocommit-here', { readOnly: true, mode: 'autocommit', replica: false }, 'primary'],
      ['/autocommit-write', { mode: 'autocommit' }, 'primary']
    ]
    for (const [url, db] of routes) {
      app.get(url, { config: { db } }, async (request) => place(await request.db.query(where)))
    }
    app.get('/stream', { config: { db: { readOnly: true } } }, (request) => request.db.stream(where))
    const autocommit = { config: { db: { readOnly: true, mode: 'autocommit' as const } } }
    app.get('/stream-autocommit', autocommit, (request) => request.db.stream(where))
    app.get('/nested', { config: { db: { readOnly: true } } }, async (request) =>
      request.db.transaction(async (session) => place(await session.query(where))))
    for (const [url, , expected] of routes) t.match((await app.inject(url)).body, expected, url)
    for (const url of ['/stream', '/stream-autocommit']) {
      t.match((await app.inject(url)).json().name, /^standby_[12]$/, url)
    }
    t.match((await app.inject('/nested')).body, /^standby_[12]$/)

    const read = (options: object) => app.db.scope(async (session) => place(await session.query(where)), options)
    t.match(await read({ readOnly: true }), /^standby_[12]$/)
    t.equal(await read({}), 'primary')
    t.equal(await read({ readOnly: true, replica: false }), 'primary')
    t.match(await app.db.scope(() => app.db.current().query(where).then(place), { readOnly: true }), /^standby_[12]$/)
    {
      await using session = app.db.session({ readOnly: true })
      t.match(place(await session.query(where)), /^standby_[12]$/)
      await session.commit()
      t.match(place(await session.query(where)), /^standby_[12]$/)
    }
    t.equal(place(await app.db.query(where)), 'primary')
    t.equal(place(await app.db.lease((client) => client.query(where))), 'primary')
    t.type(await app.db.ping(), 'number')
    const stats = app.db.stats().replicas
    t.match(stats, [{ inUse: true, problem: null, lag: Number, serverVersion: /^\d+/ }, { inUse: true }])
    t.match(stats.map(({ name }) => name), standbys.map(({ port }) => `127.0.0.1:${port}/postgres`))
    t.equal(stats.every(({ pool }) => pool.inUse === 0 && pool.waiting === 0), true)
  })

  t.test(`${strategy}: reads spread over the replicas`, async (t) => {
    const app = await open(t, { pool: { strategy } })
    const places = await Promise.all(Array.from({ length: 40 }, () =>
      app.db.scope(async (session) => place(await session.query(where)), { readOnly: true })))
    t.same(new Set(places), new Set(['standby_1', 'standby_2']))
    await app.db.reset()
    t.ok(app.db.stats().replicas.every(({ pool }) => pool.idle === 0), 'reset() replaces their connections, too')
  })
}

t.test('an app that only reads: its statements run on a replica, ping() and lease() on the primary', async (t) => {
  const app = await open(t, { readOnly: true })
  t.match(place(await app.db.query(where)), /^standby/)
  t.equal(place(await app.db.lease((client) => client.query(where))), 'primary')
  const { acquired } = app.db.stats().counters
  await app.db.ping()
  t.equal(app.db.stats().counters.acquired, acquired + 1)
})

t.test('what only a primary can do, or only it has already, is done there although it was sent to a replica', async (t) => {
  const app = await open(t)
  const read = (text: string, options: object = {}) =>
    app.db.scope(async (session) => (await session.query(text)).rows, { readOnly: true, ...options })
  for (const standby of standbys) await standby.pause()
  t.teardown(async () => { for (const standby of standbys) await standby.resume() })
  await primary.query('CREATE TABLE fresh AS SELECT 7 AS n')
  for (const mode of ['transaction', 'autocommit']) {
    t.same(await read('SELECT n FROM fresh', { mode }), [{ n: 7 }], 'a table that the replicas do not have yet')
    await read("SELECT pg_notify('channel', 'text')", { mode })
    await t.rejects(read('SELECT nonsense', { mode }), { code: '42703' }, 'a mistake is reported once')
    await t.rejects(read('INSERT INTO fresh VALUES (1)', { mode }), { code: '25006' })
    await t.rejects(read('SELECT 1 / 0', { mode }), { code: '22012' })
  }
  t.match(app.db.stats(), { inUse: 0, waiting: 0 })
  t.equal(app.db.stats().replicas.every(({ inUse, pool }) => inUse && pool.inUse === 0), true)
})

t.test('the metrics show each replica', async (t) => {
  const app = await open(t)
  const register = new promClient.Registry()
  registerMetrics(app, { register, client: promClient })
  await app.db.scope((session) => session.query(where), { readOnly: true })
  const text = await register.metrics()
  for (const { port } of standbys) {
    t.match(text, `pg_scope_replica_in_use{engine="db",replica="127.0.0.1:${port}/postgres"} 1`)
    t.match(text, `pg_scope_replica_lag_seconds{engine="db",replica="127.0.0.1:${port}/postgres"} `)
  }
  t.equal(Array.from(text.matchAll(/^pg_scope_replica_acquires_total.* (\d)$/gm)).reduce((sum, [, n]) => sum + Number(n), 0), 1)
})
