import { setTimeout as sleep } from 'node:timers/promises'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import pgScope, { type PgScopeOptions, type PoolOptions } from '../../../harness/plugin.ts'
import { startPgProxy } from '../../../harness/pg-proxy.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { onlyDirect, onlyQueue } from '../../../harness/variant.ts'
import { waitFor } from '../../../harness/wait-for.ts'

const db = await startTestPostgres(t)
await db.query('CREATE TABLE things (id int PRIMARY KEY)')

async function setUp (t: Test, pool: PoolOptions, options: PgScopeOptions = {}) {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(pgScope, { connectionString: db.connectionString, ...options, pool })
  await waitFor(async () => (await db.activity()).length === (pool.min ?? 0), { message: 'the startup check is over' })
  return app
}

type App = Awaited<ReturnType<typeof setUp>>

const pidOf = async (app: App): Promise<number> => (await app.db.scope((session) => session.query('SELECT pg_backend_pid() AS pid'))).rows[0].pid
const kept = onlyQueue(t, 'none is kept')
const backends = onlyDirect(kept, 'connections are told apart by their backends')
const clean = (state: string | null): boolean => state === 'idle'

backends.test('a clean connection is used again, after a commit, a rollback, and an error', async (t) => {
  const app = await setUp(t, { max: 1 })
  const pid = await pidOf(app)
  await t.rejects(app.db.scope(async (session) => {
    await session.query('INSERT INTO things VALUES (1)')
    throw new Error('no')
  }), { message: 'no' })
  await t.rejects(app.db.scope((session) => session.query('SELECT nonsense')), { code: '42703' })
  await t.rejects(app.db.query('SELECT 1 / 0'), { code: '22012' })
  t.equal(await pidOf(app), pid)
  t.match(app.db.stats().counters, { opened: 1, destroyed: 0 })
  t.same((await db.activity()).map(({ state }) => state), ['idle'])
})

backends.test('what was set on a raw client reaches no other session, even if it was left in a transaction', async (t) => {
  const app = await setUp(t, { max: 1 })
  let leased = 0
  await app.db.lease(async (client) => {
    leased = (await client.query('SELECT pg_backend_pid() AS pid')).rows[0].pid
    await client.query('SET application_name = \'spoiled\'')
    await client.query('BEGIN')
    await client.query('INSERT INTO things VALUES (2)')
  })
  const { rows: [row] } = await app.db.query('SELECT pg_backend_pid() AS pid, current_setting(\'application_name\') AS name, (SELECT count(*)::int FROM things) AS things')
  t.not(row.pid, leased)
  t.not(row.name, 'spoiled')
  t.equal(row.things, 0)
  t.match(app.db.stats().counters, { opened: 2, destroyed: 1 })
  await waitFor(async () => (await db.activity()).length === 1, { message: 'the raw client\'s connection is ended' })
})

t.test('a raw client is ended when its function throws, and its place comes back', async (t) => {
  const app = await setUp(t, { max: 1 })
  for (let i = 0; i < 3; i++) await t.rejects(app.db.lease(async () => { throw new Error('no') }), { message: 'no' })
  t.match(app.db.stats(), { inUse: 0, waiting: 0 })
  t.ok(await pidOf(app))
})

t.test('a statement that ends the transaction behind the session\'s back leaves no connection in a wrong state', async (t) => {
  const app = await setUp(t, { max: 1 })
  await app.db.scope((session) => session.query('COMMIT; BEGIN; SELECT 1')).catch(() => {})
  await app.db.query('BEGIN; SELECT 1').catch(() => {})
  await waitFor(async () => (await db.activity()).every(({ state }) => clean(state)), { message: 'nothing is left in a transaction' })
  t.ok(await pidOf(app))
  t.equal(app.db.stats().inUse, 0)
})

backends.test('maxLifetime replaces a connection that is never idle, and no session notices', async (t) => {
  const app = await setUp(t, { max: 1, maxLifetime: 300 })
  const pids: number[] = []
  const start = performance.now()
  let failed = 0
  const worker = async (): Promise<void> => {
    while (pids.length < 5 && performance.now() - start < 30000) {
      await pidOf(app).then((pid) => {
        if (!pids.includes(pid)) pids.push(pid)
      }, () => { failed++ })
    }
  }
  await Promise.all([worker(), worker(), worker()])
  t.equal(failed, 0)
  const time = performance.now() - start
  t.equal(pids.length, 5)
  t.ok(time >= 4 * 300 * 0.9 - 50, `each lived for its time: ${Math.round(time)} ms`)
  await waitFor(async () => (await db.activity()).length <= 1, { message: 'the replaced ones are ended' })
})

backends.test('a long transaction outlives maxLifetime; its connection is replaced when it comes back', async (t) => {
  const app = await setUp(t, { max: 1, maxLifetime: 100 })
  const pid = await app.db.scope(async (session) => {
    const before = (await session.query('SELECT pg_backend_pid() AS pid')).rows[0].pid
    await sleep(250)
    t.equal((await session.query('SELECT pg_backend_pid() AS pid')).rows[0].pid, before)
    return before
  })
  t.not(await pidOf(app), pid)
})

backends.test('maxLifetime ends idle connections too', async (t) => {
  const app = await setUp(t, { max: 2, maxLifetime: 1000, idleTimeout: 0 })
  await Promise.all([pidOf(app), pidOf(app)])
  await waitFor(() => app.db.stats().idle === 2, { interval: 1 })
  await waitFor(async () => app.db.stats().open === 0 && (await db.activity()).length === 0)
})

backends.test('connections that were opened together are not replaced together: each up to a tenth earlier', async (t) => {
  const maxLifetime = 3000
  const app = await setUp(t, { max: 20, maxLifetime })
  const opened = performance.now()
  const sessions = Array.from({ length: 20 }, () => app.db.session())
  const pids = async (): Promise<number[]> => {
    await Promise.all(sessions.map((session) => session.rollback()))
    const results = await Promise.all(sessions.map((session) => session.query('SELECT pg_backend_pid() AS pid')))
    return results.map(({ rows }) => rows[0].pid)
  }
  let left = await pids()
  const ages: number[] = []
  while (left.length > 0) {
    await sleep(20)
    const now = await pids()
    const kept = left.filter((pid) => now.includes(pid))
    ages.push(...Array(left.length - kept.length).fill(performance.now() - opened))
    left = kept
  }
  await Promise.all(sessions.map((session) => session.close()))
  ages.sort((a, b) => a - b)
  t.ok(ages[0]! >= maxLifetime * 0.9, `the first after ${ages[0]} ms`)
  t.ok(ages[19]! - ages[0]! >= 50, `the last after ${ages[19]} ms`)
  t.equal(app.db.stats().counters.destroyed, 20)
})

backends.test('idleTimeout ends idle connections, down to min', async (t) => {
  const app = await setUp(t, { max: 5, min: 2, idleTimeout: 100 })
  const sessions = Array.from({ length: 5 }, () => app.db.session())
  await Promise.all(sessions.map((session) => session.query('SELECT 1')))
  t.equal(app.db.stats().open, 5)
  await Promise.all(sessions.map((session) => session.close()))
  await waitFor(async () => (await db.activity()).length === 2)
  await sleep(300)
  t.equal((await db.activity()).length, 2)
  t.match(app.db.stats(), { open: 2, idle: 2 })
})

backends.test('idleTimeout 0 keeps them', async (t) => {
  const app = await setUp(t, { max: 2, idleTimeout: 0 })
  await Promise.all([pidOf(app), pidOf(app)])
  await sleep(300)
  t.equal((await db.activity()).length, 2)
})

backends.test('min connections are open before the first request, and it uses one of them', async (t) => {
  const app = await setUp(t, { max: 4, min: 3 })
  t.match(app.db.stats(), { open: 3, idle: 3, counters: { opened: 3, acquired: 0 } })
  const pids = (await db.activity()).map(({ pid }) => pid)
  t.ok(pids.includes(await pidOf(app)))
  t.equal(app.db.stats().counters.opened, 3)
})

kept.test('without min nothing is open until it is needed, and no more than are needed', async (t) => {
  const app = await setUp(t, { max: 5 })
  t.match(app.db.stats(), { open: 0, counters: { opened: 0 } })
  for (let i = 0; i < 20; i++) await pidOf(app)
  t.match(app.db.stats(), { open: 1, counters: { opened: 1 } })
})

backends.test('prePing: a dead connection is replaced before a session gets it', async (t) => {
  const proxy = await startPgProxy(t, db)
  const app = await setUp(t, { max: 1, prePing: true }, {
    connectionString: proxy.connectionString(db.connectionString)
  })
  const pid = await pidOf(app)
  proxy.reset()
  await pidOf(app)
  t.equal(proxy.roundTrips, 3, 'the ping, BEGIN with the statement, COMMIT')
  proxy.cutOn((statement) => statement === '')
  t.not(await pidOf(app), pid)
  t.match(app.db.stats().counters, { resent: 0, opened: 2, destroyed: 1 })
})

backends.test('prePing: a connection on a network that drops everything is closed, and another one is opened', async (t) => {
  const proxy = await startPgProxy(t, db)
  const app = await setUp(t, { max: 1, prePing: true, acquireTimeout: 60000 }, {
    connectionString: proxy.connectionString(db.connectionString), closeTimeout: 100
  })
  const pid = await pidOf(app)
  proxy.pause({ drop: true })
  const waiting = pidOf(app)
  await sleep(100)
  proxy.resume() // the old connection stays silent, a new one works
  t.not(await waiting, pid)
  t.match(app.db.stats(), { inUse: 0, idle: 1 })
})

kept.test('stats() counts what happens', async (t) => {
  const app = await setUp(t, { max: 2 })
  const { serverVersion, ...unused } = app.db.stats()
  t.match(serverVersion, /^\d+/)
  t.same(unused, {
    strategy: 'queue',
    replicas: [],
    hosts: [],
    max: 2,
    open: 0,
    idle: 0,
    inUse: 0,
    waiting: 0,
    oldestTransaction: 0,
    counters: {
      opened: 0,
      destroyed: 0,
      acquired: 0,
      handedOver: 0,
      timedOut: 0,
      refused: 0,
      resent: 0,
      canceled: 0,
      committed: 0,
      rolledBack: 0,
      retried: 0,
      deadlocks: 0,
      leaks: 0,
      roundTrips: 0
    }
  })
  const session = app.db.session()
  await session.query('SELECT 1')
  await sleep(50)
  const { oldestTransaction, ...busy } = app.db.stats()
  t.ok(oldestTransaction >= 40 && oldestTransaction < 10000, `${oldestTransaction} ms`)
  t.match(busy, { open: 1, idle: 0, inUse: 1, waiting: 0 })
  await session.commit()
  t.match(app.db.stats(), {
    open: 1, idle: 1, inUse: 0, oldestTransaction: 0, counters: { committed: 1, rolledBack: 0 }
  })
  await session.query('SELECT 1')
  await session.close()
  await app.db.query('SELECT 1')
  t.same(app.db.stats().counters, {
    opened: 1,
    destroyed: 0,
    acquired: 3,
    handedOver: 0,
    timedOut: 0,
    refused: 0,
    resent: 0,
    canceled: 0,
    committed: 1,
    rolledBack: 1,
    retried: 0,
    deadlocks: 0,
    leaks: 0,
    roundTrips: 5
  })
  const stats = app.db.stats()
  stats.counters.opened = 99
  t.equal(app.db.stats().counters.opened, 1, 'a copy is handed out')
})
