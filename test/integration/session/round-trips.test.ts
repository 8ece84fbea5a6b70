import t from 'tap'
import Fastify from 'fastify'
import pgScope from '../../../harness/plugin.ts'
import { send } from '../../../harness/http-client.ts'
import { startPgProxy } from '../../../harness/pg-proxy.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { withoutSettings } from '../../../harness/variant.ts'
import type { AddressInfo } from 'node:net'
import type { Test } from 'tap'
import type { PgScopeOptions } from '../../../types/options.ts'

const postgres = await startTestPostgres(t)
await postgres.query('CREATE ROLE reader; GRANT reader TO CURRENT_USER')

const everything = {
  role: 'reader', settings: { 'app.tenant': 'a', search_path: 'public' }, statementTimeout: 5000, lockTimeout: 4000, idleInTransactionTimeout: 3000, transactionTimeout: 9000
}

/**
 * The counters stand at 0 with a connection that is open already. What is prepared by itself needs no Describe:
 * prepared.test.ts.
 */
async function setUp (t: Test, options: PgScopeOptions = {}) {
  const proxy = await startPgProxy(t, postgres)
  const app = Fastify()
  await app.register(pgScope, {
    connectionString: proxy.connectionString(postgres.connectionString), preparedStatements: 0, ...options
  })
  app.get('/untouched', async () => ({}))
  for (const [path, config] of [['plain', {}], ['read-only', { readOnly: true }], ['serializable', { readOnly: true, isolation: 'serializable' as const }], ['all', everything], ['all-read-only', { ...everything, readOnly: true }]] as const) {
    app.get(`/${path}/:k`, { config: { db: config } }, async (request) => {
      const { k } = request.params as { k: string }
      for (let i = 0; i < Number(k); i++) await request.db.query('SELECT $1::int AS a', [i])
      return { roundTrips: proxy.roundTrips }
    })
  }
  await app.listen({ port: 0, host: '127.0.0.1' })
  t.teardown(() => app.close())
  await app.db.query('SELECT 1')
  proxy.reset()
  return { proxy, db: app.db, port: (app.server.address() as AddressInfo).port }
}

for (const k of [1, 2, 5]) {
  for (const path of ['plain', 'all', 'serializable']) {
    t.test(`a request with ${k} statements in sequence costs ${k} + 1 round trips (${path})`, async t => {
      const { proxy, port } = await setUp(t)
      const answer = await send(port, { path: `/${path}/${k}` })
      t.equal(answer.status, 200)
      t.equal(proxy.roundTrips, k + 1)
      t.equal(proxy.syncs, k + 1)
      t.equal(proxy.executed.at(-1), 'COMMIT')
      t.equal(proxy.describes, k, 'BEGIN, settings and COMMIT are not described')
    })
  }

  for (const path of ['read-only', 'all-read-only']) {
    t.test(`a read-only request with ${k} statements costs ${k} as its client sees it (${path})`, async t => {
      const { proxy, port } = await setUp(t)
      // COMMIT gets no answer at all, and its client has its own nevertheless.
      const commit = proxy.cutOn(/^commit$/i)
      t.equal((await send(port, { path: `/${path}/${k}` })).status, 200)
      await commit.sprung
      t.equal(proxy.syncs, k)
      t.equal(proxy.roundTrips, k)
    })
  }
}

t.test('options of the plugin cost no more, and travel with the startup where they can', async t => {
  const { proxy, port } = await setUp(t, everything)
  await send(port, { path: '/plain/2' })
  t.equal(proxy.roundTrips, 3)
})

t.test('a route that never touches request.db opens no connection and sends no statement', async t => {
  const proxy = await startPgProxy(t, postgres)
  const app = Fastify()
  await app.register(pgScope, {
    connectionString: proxy.connectionString(postgres.connectionString), startupCheck: false
  })
  app.get('/untouched', async () => ({}))
  app.get('/touched', async (request) => ({ state: request.db.state }))
  await app.listen({ port: 0, host: '127.0.0.1' })
  t.teardown(() => app.close())
  const { port } = app.server.address() as AddressInfo
  for (const path of ['/untouched', '/touched', '/unknown']) await send(port, { path })
  t.match(proxy, { connections: 0, syncs: 0, roundTrips: 0, statements: [] })
})

t.test('a new connection costs its startup, and no round trip more', async t => {
  const { proxy, db } = await setUp(t)
  await db.scope(async () => {
    await db.scope((session) => session.query('SELECT 1'))
  })
  await db.lease(() => {})
  proxy.reset()
  await db.scope((session) => session.query('SELECT 1'))
  t.match(proxy, { connections: 1, roundTrips: 2 })
})

t.test('five statements under Promise.all cost two round trips', async t => {
  const { proxy, db } = await setUp(t)
  await db.scope((session) => Promise.all([1, 2, 3, 4, 5].map((i) => session.query('SELECT $1::int', [i]))), everything)
  t.match(proxy, { roundTrips: 2, syncs: 2, describes: 5 })
})

t.test('savepoints cost nothing', async t => {
  const { proxy, db } = await setUp(t)
  proxy.delay(10)
  await db.scope(async (session) => {
    await session.transaction(async (session) => {
      await session.query('SELECT 1')
      await session.transaction((session) => session.query('SELECT 2'))
      await session.query('SELECT 3')
    })
    await session.transaction((session) => session.query('SELECT 4'))
    await new Promise((resolve) => setTimeout(resolve, 100))
    await session.query('SELECT 5')
    await session.transaction((session) => session.query('SELECT 6'))
  })
  t.match(proxy, { roundTrips: 7, describes: 6 })
})

t.test('a savepoint without statements sends nothing', async t => {
  const { proxy, db } = await setUp(t)
  await db.scope(async (session) => {
    await session.query('SELECT 1')
    await session.transaction(() => session.transaction(() => {}))
  })
  t.equal(proxy.roundTrips, 2)
  t.same(withoutSettings(proxy.executed), ['BEGIN', 'SELECT 1', 'COMMIT'])
})

t.test('a statement by itself costs one round trip, with settings as well', async t => {
  const { proxy, db } = await setUp(t)
  await db.query('SELECT 1')
  t.equal(proxy.roundTrips, 1)
  await db.scope((session) => session.query('SELECT 2'), { ...everything, mode: 'autocommit', readOnly: true })
  t.match(proxy, { roundTrips: 2, syncs: 2, describes: 2 })
})
