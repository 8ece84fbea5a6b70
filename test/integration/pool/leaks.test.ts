import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyRequest } from 'fastify'
import t, { type Test } from 'tap'
import type { PgScopeOptions } from '../../../harness/plugin.ts'
import { startPgProxy } from '../../../harness/pg-proxy.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { onlyWithIdle } from '../../../harness/variant.ts'
import { waitFor } from '../../../harness/wait-for.ts'
import { type App, checkReports, leakDetectionThreshold, reported, watchedApp } from './leak-reports.ts'

const db = await startTestPostgres(t)
const setUp = (t: Test, options: PgScopeOptions = {}) => watchedApp(t, {
  connectionString: db.connectionString, ...options
})

async function takesTooLong (
  t: Test,
  options: PgScopeOptions,
  expected: { route?: string, frame: string },
  take: (app: App, hold: () => Promise<unknown>) => Promise<unknown>
): Promise<void> {
  const leaks = await setUp(t, options)
  await take(leaks.app, () => reported(leaks))
  await waitFor(() => leaks.returned().length > 0)
  checkReports(t, leaks, expected)
  t.match(leaks.app.db.stats(), { inUse: 0, waiting: 0, counters: { canceled: 0 } }, 'nothing was taken away')
}

/** A route that does what `handle` does, and the request for it. */
async function request (app: App, handle: (request: FastifyRequest) => unknown, config = {}): Promise<number> {
  app.get('/things/:id', { config: { db: config } }, async (request, reply) => {
    const result = await handle(request)
    return result === undefined ? { ok: true } : reply.send(result)
  })
  return (await app.inject('/things/7')).statusCode
}

const route = 'GET /things/:id'

t.test('a request: its route, where it asked for its first statement, and how long it has held', async (t) => {
  await takesTooLong(t, {}, { route, frame: 'loadThings' }, async (app, hold) => {
    const status = await request(app, async function loadThings (request) {
      await request.db.query('SELECT 1')
      await hold()
      await request.db.query('SELECT 2')
    })
    t.equal(status, 200, 'it is served all the same')
  })
})

t.test('a request that had to wait for its connection: the time and the place are its own', async (t) => {
  const leaks = await setUp(t, { pool: { max: 1 } })
  const { app } = leaks
  const before = app.db.session()
  await before.query('SELECT 1')
  const answer = request(app, async function waitForThings (request) {
    await request.db.query('SELECT 1')
    await reported(leaks, 2)
  })
  await waitFor(() => app.db.stats().waiting === 1)
  await reported(leaks)
  await before.close()
  t.equal(await answer, 200)
  await waitFor(() => leaks.returned().length === 2)
  const [first, second] = leaks.suspected()
  t.equal(first?.route, undefined)
  t.equal(second?.route, route)
  t.match(second?.stack, /waitForThings.*leaks\.test\.ts/)
  t.ok(second!.held! < 10 * leakDetectionThreshold, 'the wait does not count')
})

t.test('scope(fn)', (t) => takesTooLong(t, {}, { frame: 'job' }, (app, hold) => app.db.scope(async function job (session) {
  await session.query('SELECT 1')
  await hold()
})))

t.test('a session opened by hand', (t) => takesTooLong(t, {}, { frame: 'openSession' }, async function openSession (app, hold) {
  await using session = app.db.session()
  await session.query('SELECT 1')
  await hold()
}))

t.test('a statement called inside of transaction(fn)', (t) => takesTooLong(t, {}, { route, frame: 'inner' }, (app, hold) => request(app, async (request) => {
  await request.db.transaction(async function inner (session) {
    await session.query('SELECT 1')
    await hold()
  })
})))

t.test('lease(fn)', (t) => takesTooLong(t, {}, { frame: 'listen' }, async function listen (app, hold) {
  await app.db.lease(async (client) => {
    await client.query('SELECT 1')
    await hold()
  })
}))

t.test('transaction(fn) in mode autocommit', (t) => takesTooLong(t, {}, { route, frame: 'inner' }, (app, hold) => request(app, async (request) => {
  await request.db.query('SELECT 1')
  await request.db.transaction(async function inner (session) {
    await session.query('SELECT 1')
    await hold()
  })
}, { mode: 'autocommit' })))

t.test('a single statement that takes long', (t) => takesTooLong(t, {}, { frame: 'report' }, async function report (app, hold) {
  await Promise.all([app.db.query('SELECT pg_sleep(0.3)'), hold()])
}))

for (const mode of ['transaction', 'autocommit']) {
  t.test(`a stream that is read slowly, in mode ${mode}`, (t) => takesTooLong(t, {}, { route, frame: 'exportThings' }, (app, hold) => request(app, async function exportThings (request) {
    for await (const { n } of request.db.stream('SELECT generate_series(1, 3) AS n')) if (n === 1) await hold()
  }, { mode })))
}

onlyWithIdle(t, 'a new connection is not tried again').test('a first batch that is sent again on a new connection: the place stays the app\'s', async (t) => {
  const proxy = await startPgProxy(t, db)
  const leaks = await setUp(t, { connectionString: proxy.connectionString(db.connectionString) })
  const { app } = leaks
  await app.db.scope((session) => session.query('SELECT 1'))
  proxy.cutOn((statement) => statement.includes('again'))
  await app.db.scope(async function again (session) {
    await session.query('SELECT \'again\'')
    await reported(leaks)
  })
  await waitFor(() => leaks.returned().length === 1)
  t.equal(app.db.stats().counters.resent, 1)
  checkReports(t, leaks, { frame: 'again' })
})

t.test('with the null strategy', (t) => takesTooLong(t, { pool: { strategy: 'null' } }, { frame: 'job' }, (app, hold) => app.db.scope(async function job (session) {
  await session.query('SELECT 1')
  await hold()
})))

t.test('what comes back in time is not reported, and neither is waiting', async (t) => {
  const leaks = await setUp(t, { pool: { max: 1 }, leakDetectionThreshold: 1000 })
  const { app } = leaks
  await Promise.all(Array.from({ length: 60 }, () => app.db.scope((session) => session.query('SELECT pg_sleep(0.02)'))))
  await app.db.scope(async (session) => {
    for (let i = 0; i < 4; i++) {
      await session.query('SELECT 1')
      await sleep(300)
      await session.commit()
    }
  })
  await sleep(1200)
  t.same(leaks.lines, [])
})

t.test('a connection that never comes back by itself is reported once, and again when close() ends it', async (t) => {
  const leaks = await setUp(t, { closeTimeout: 50 })
  const session = leaks.app.db.session()
  await session.query('SELECT 1')
  await reported(leaks)
  await sleep(3 * leakDetectionThreshold)
  t.equal(leaks.suspected().length, 1)
  t.equal(leaks.app.db.stats().inUse, 1, 'it is not taken away')
  t.equal((await session.query('SELECT 1')).rowCount, 1, 'and still works')
  await leaks.app.db.close()
  t.equal(leaks.returned().length, 1)
})

t.test('neither statements nor their values are in a report', async (t) => {
  const leaks = await setUp(t)
  await leaks.app.db.scope(async (session) => {
    await session.query('SELECT $1 AS secret', ['s3cret'])
    await reported(leaks)
  })
  await waitFor(() => leaks.returned().length === 1)
  t.notMatch(JSON.stringify(leaks.lines), /s3cret|SELECT|postgres:\/\//)
})

t.test('off, which it is by default, it takes no stack and starts no timer', async (t) => {
  const original = globalThis.setTimeout
  const timers: unknown[] = []
  const limits: number[] = []
  const counting = async (options: PgScopeOptions): Promise<number> => {
    const { app } = await setUp(t, options)
    await app.db.scope((session) => session.query('SELECT 1'))
    timers.length = 0
    globalThis.setTimeout = Object.assign((...given: Parameters<typeof original>) => {
      timers.push(given[1])
      return original(...given)
    }, original) as typeof setTimeout
    const { stackTraceLimit } = Error
    let limit = stackTraceLimit
    // A stack that is taken with a limit of its own sets it.
    Object.defineProperty(Error, 'stackTraceLimit', { configurable: true, enumerable: true, get: () => limit, set: (value) => { limits.push(limit = value) } })
    try {
      for (let i = 0; i < 20; i++) await app.db.scope((session) => session.query('SELECT 1'))
    } finally {
      globalThis.setTimeout = original
      Object.defineProperty(Error, 'stackTraceLimit', { configurable: true, enumerable: true, writable: true, value: stackTraceLimit })
    }
    return timers.filter((delay) => delay === 4321).length
  }
  t.equal(await counting({ leakDetectionThreshold: 4321 }), 20)
  t.not(limits.length, 0)
  limits.length = 0
  for (const off of [{
    leakDetectionThreshold: 0
  }, { leakDetectionThreshold: undefined }]) t.equal(await counting(off), 0)
  t.same(limits, [])
})

t.test('it can be switched on from the environment', async (t) => {
  const { env } = process
  process.env = {
    ...env, DATABASE_URL: db.connectionString, PG_SCOPE_LEAK_DETECTION_THRESHOLD: String(leakDetectionThreshold)
  }
  t.teardown(() => { process.env = env })
  const leaks = await setUp(t, { connectionString: undefined, leakDetectionThreshold: undefined })
  await leaks.app.db.scope(async (session) => {
    await session.query('SELECT 1')
    await reported(leaks)
  })
  t.equal(leaks.suspected().length, 1)
})
