import { setTimeout as sleep } from 'node:timers/promises'
import type { AddressInfo } from 'node:net'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import pgScope, { type PgScopeOptions, type PoolOptions } from '../../../harness/plugin.ts'
import { hangUp, send } from '../../../harness/http-client.ts'
import { startPgProxy } from '../../../harness/pg-proxy.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { onlyQueue } from '../../../harness/variant.ts'
import { waitFor } from '../../../harness/wait-for.ts'

const db = await startTestPostgres(t)

/** Where it runs out in a test. Connections have to be opened within it, too, on a busy machine. Milliseconds. */
const acquireTimeout = 1500

async function setUp (t: Test, pool: PoolOptions, options: PgScopeOptions = { connectionString: db.connectionString }) {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(pgScope, { ...options, pool, exposeErrors: true })
  return app
}

/** Holds `count` connections until the returned function is called. */
async function hold (app: Awaited<ReturnType<typeof setUp>>, count: number) {
  const sessions = Array.from({ length: count }, () => app.db.session())
  await Promise.all(sessions.map((session) => session.query('SELECT 1')))
  return () => Promise.all(sessions.map((session) => session.close()))
}

const kept = onlyQueue(t, 'none is kept')
const port = (app: Awaited<ReturnType<typeof setUp>>) => (app.server.address() as AddressInfo).port

kept.test('sessions get connections in the order in which they asked', async (t) => {
  const app = await setUp(t, { max: 1 })
  const release = await hold(app, 1)
  const order: number[] = []
  const all = Promise.all(Array.from({ length: 50 }, (_, i) => app.db.scope(async (session) => {
    await session.query('SELECT 1')
    order.push(i)
  })))
  t.equal(app.db.stats().waiting, 50)
  await release()
  await all
  t.same(order, Array.from({ length: 50 }, (_, i) => i))
  t.match(app.db.stats(), { waiting: 0, inUse: 0, counters: { acquired: 51, opened: 1, destroyed: 0 } })
})

t.test('the order is the same whatever waits: scopes, sessions, single statements, leases', async (t) => {
  const app = await setUp(t, { max: 1 })
  const release = await hold(app, 1)
  const order: string[] = []
  const session = app.db.session()
  const all = Promise.all([
    app.db.scope((session) => session.query('SELECT 1').then(() => order.push('scope'))),
    app.db.query('SELECT 1').then(() => order.push('query')),
    session.query('SELECT 1').then(() => { order.push('session'); return session.close() }),
    app.db.lease((client) => client.query('SELECT 1')).then(() => order.push('lease')),
    app.db.ping(30000).then(() => order.push('ping'))
  ])
  await release()
  await all
  t.same(order, ['scope', 'query', 'session', 'lease', 'ping'])
})

kept.test('60 requests on 3 connections are all served', async (t) => {
  const app = await setUp(t, { max: 3 })
  app.get('/', async (request) => (await request.db.query('SELECT pg_sleep(0.005), pg_backend_pid() AS pid')).rows[0].pid)
  await app.listen({ port: 0 })
  const answers = await Promise.all(Array.from({ length: 60 }, () => send(port(app))))
  t.same(answers.map(({ status }) => status), Array(60).fill(200))
  t.equal(new Set(answers.map(({ body }) => body)).size, 3)
  t.match(app.db.stats(), {
    open: 3, idle: 3, inUse: 0, waiting: 0, counters: { opened: 3, acquired: 60, committed: 60 }
  })
})

t.test('an exhausted pool: 503 with Retry-After once acquireTimeout has run out, and what to do about it', async (t) => {
  const app = await setUp(t, { max: 2, acquireTimeout })
  app.get('/', async (request) => (await request.db.query('SELECT 1 AS one')).rows[0])
  await app.listen({ port: 0 })
  const release = await hold(app, 2)
  const start = performance.now()
  const answers = await Promise.all([send(port(app)), send(port(app)), send(port(app))])
  const time = performance.now() - start
  t.ok(time >= acquireTimeout - 1 && time < 8 * acquireTimeout, `${time} ms`)
  for (const { status, headers, body } of answers) {
    t.equal(status, 503)
    t.equal(headers['retry-after'], '1')
    t.match(JSON.parse(body), { code: 'FST_PG_SCOPE_POOL_EXHAUSTED', message: /within 1500 ms \(pool\.acquireTimeout\): all 2 are in use.*raise pool\.max/ })
  }
  t.match(app.db.stats(), { waiting: 0, inUse: 2, counters: { timedOut: 3 } })
  await release()
  t.equal((await send(port(app))).status, 200, 'the next request is served')
})

t.test('each waits its own acquireTimeout, however many came before', async (t) => {
  const app = await setUp(t, { max: 1, acquireTimeout })
  const release = await hold(app, 1)
  const waits = await Promise.all([0, 500, 1000].map(async (delay) => {
    await sleep(delay)
    const start = performance.now()
    await t.rejects(app.db.scope((session) => session.query('SELECT 1')), { code: 'FST_PG_SCOPE_POOL_EXHAUSTED' })
    return performance.now() - start
  }))
  t.ok(waits.every((time) => time >= acquireTimeout - 1 && time < 2 * acquireTimeout), waits.join())
  await release()
})

t.test('a connection that is returned just in time goes to the first waiter that is left', async (t) => {
  const app = await setUp(t, { max: 1, acquireTimeout })
  const release = await hold(app, 1)
  const early = t.rejects(app.db.query('SELECT 1'), { code: 'FST_PG_SCOPE_POOL_EXHAUSTED' })
  await sleep(acquireTimeout * 0.6)
  const late = app.db.query('SELECT 2 AS two')
  await early
  await release()
  t.same((await late).rows, [{ two: 2 }])
})

t.test('maxWaiting: one more is refused at once', async (t) => {
  const app = await setUp(t, { max: 2, maxWaiting: 3, acquireTimeout: 60000 })
  app.get('/', async (request) => (await request.db.query('SELECT 1 AS one')).rows[0])
  await app.listen({ port: 0 })
  const release = await hold(app, 2)
  const waiting = Promise.all([1, 2, 3].map(() => app.db.query('SELECT 1')))
  t.equal(app.db.stats().waiting, 3)
  const start = performance.now()
  const { status, headers, body } = await send(port(app))
  t.ok(performance.now() - start < 30000, 'and not after acquireTimeout')
  t.equal(status, 503)
  t.equal(headers['retry-after'], '1')
  t.match(JSON.parse(body), { code: 'FST_PG_SCOPE_POOL_QUEUE_FULL', message: /2 of 2 connections are in use and 3 sessions already wait \(pool\.maxWaiting\)/ })
  t.match(app.db.stats(), { waiting: 3, counters: { refused: 1, timedOut: 0 } })
  await release()
  await waiting
  t.equal((await send(port(app))).status, 200)
})

t.test('maxWaiting: 0 serves as many as there are connections, from a cold start, and no more', async (t) => {
  const app = await setUp(t, { max: 3, maxWaiting: 0 })
  const results = await Promise.allSettled(Array.from({ length: 10 }, () => app.db.query('SELECT 1')))
  t.same(results.map(({ status }) => status), [...Array(3).fill('fulfilled'), ...Array(7).fill('rejected')])
  t.equal(app.db.stats().counters.refused, 7)
  t.equal((await app.db.query('SELECT 1')).rowCount, 1)
})

t.test('maxWaiting holds while connections are being opened, and none comes', async (t) => {
  const proxy = await startPgProxy(t, db)
  const app = await setUp(t, { max: 2, maxWaiting: 3, acquireTimeout }, {
    connectionString: proxy.connectionString(db.connectionString)
  })
  proxy.pause()
  const results = await Promise.allSettled(Array.from({ length: 100 }, () => app.db.query('SELECT 1')))
  const codes = results.map((result) => result.status === 'rejected' ? result.reason.code : 'served')
  t.same(codes, [...Array(5).fill('FST_PG_SCOPE_UNREACHABLE'), ...Array(95).fill('FST_PG_SCOPE_POOL_QUEUE_FULL')])
  proxy.resume()
  t.equal((await app.db.query('SELECT 1')).rowCount, 1)
})

t.test('exhausted and unreachable are different errors', async (t) => {
  const proxy = await startPgProxy(t, db)
  const app = await setUp(t, { max: 2, acquireTimeout }, {
    connectionString: proxy.connectionString(db.connectionString)
  })
  const release = await hold(app, 1)
  proxy.refuse()
  await t.rejects(app.db.query('SELECT 1'), { code: 'FST_PG_SCOPE_UNREACHABLE', details: new RegExp(`on 127\\.0\\.0\\.1:${proxy.port}`) }, 'one connection could be opened, and is refused')
  proxy.refuse(false)
  const releaseOther = await hold(app, 1)
  await t.rejects(app.db.query('SELECT 1'), { code: 'FST_PG_SCOPE_POOL_EXHAUSTED' }, 'all are in use')
  await releaseOther()
  await release()
  proxy.cut()
  await waitFor(() => app.db.stats().open === 0)
  proxy.pause()
  const start = performance.now()
  await t.rejects(app.db.query('SELECT 1'), { code: 'FST_PG_SCOPE_UNREACHABLE', details: /no connection within 1500 ms/ }, 'and not with the refusal of long ago')
  const time = performance.now() - start
  t.ok(time >= acquireTimeout - 1 && time < 8 * acquireTimeout, `${time} ms`)
  proxy.resume()
  await waitFor(async () => (await app.db.query('SELECT 1')).rowCount === 1)
})

kept.test('a client that hangs up while it waits leaves the queue, and takes no connection', async (t) => {
  const app = await setUp(t, { max: 1, acquireTimeout: 60000 })
  let handlers = 0
  app.get('/', async (request) => {
    handlers++
    return (await request.db.query('SELECT 1 AS one')).rows[0]
  })
  await app.listen({ port: 0 })
  const release = await hold(app, 1)
  const gone = Promise.all(Array.from({
    length: 5
  }, () => hangUp(port(app), {}, { after: waitFor(() => app.db.stats().waiting === 6) })))
  const patient = send(port(app))
  await gone
  await waitFor(() => app.db.stats().waiting === 1, { message: 'only the patient client waits' })
  t.equal(handlers, 6)
  await release()
  t.equal((await patient).status, 200)
  t.match(app.db.stats(), { inUse: 0, waiting: 0, counters: { acquired: 2, opened: 1, destroyed: 0, canceled: 0 } })
})

kept.test('a signal takes a waiting session out of the queue at once', async (t) => {
  const app = await setUp(t, { max: 1, acquireTimeout: 60000 })
  const release = await hold(app, 1)
  const controller = new AbortController()
  const waiting = app.db.scope((session) => session.query('SELECT 1'), { signal: controller.signal })
  await waitFor(() => app.db.stats().waiting === 1)
  controller.abort()
  await t.rejects(waiting, { code: 'FST_PG_SCOPE_CANCELED' })
  t.equal(app.db.stats().waiting, 0)
  await release()
  t.match(app.db.stats(), { inUse: 0, idle: 1, counters: { acquired: 1 } })
})

kept.test('a session that gives up while its connection is being opened leaves it to the pool', async (t) => {
  const proxy = await startPgProxy(t, db)
  const app = await setUp(t, { max: 1 }, { connectionString: proxy.connectionString(db.connectionString) })
  proxy.delay(200)
  const session = app.db.session()
  const query = session.query('SELECT 1')
  await waitFor(() => app.db.stats().open === 1, { interval: 1 })
  t.match(app.db.stats(), { open: 1, inUse: 0, waiting: 1 })
  const closed = session.close()
  await t.rejects(query, { code: 'FST_PG_SCOPE_SESSION_CLOSED' })
  await closed
  await waitFor(() => app.db.stats().idle === 1)
  proxy.delay(0)
  t.equal((await app.db.query('SELECT 1')).rowCount, 1)
  t.match(app.db.stats(), { counters: { opened: 1, acquired: 1 } })
})

t.test('a session that follows one which gave up on a dead network does not wait for that one\'s connection', async (t) => {
  const proxy = await startPgProxy(t, db)
  const app = await setUp(t, { max: 2, acquireTimeout: 60000 }, {
    connectionString: proxy.connectionString(db.connectionString), closeTimeout: 100
  })
  proxy.pause({ drop: true })
  const controller = new AbortController()
  const waiting = app.db.scope((session) => session.query('SELECT 1'), { signal: controller.signal })
  await waitFor(() => app.db.stats().waiting === 1)
  // Long enough for the first bytes to be swallowed.
  await sleep(50)
  controller.abort()
  await t.rejects(waiting, { code: 'FST_PG_SCOPE_CANCELED' })
  proxy.resume()
  const start = performance.now()
  t.equal((await app.db.query('SELECT 1')).rowCount, 1)
  const time = performance.now() - start
  t.ok(time < 30000, `${time} ms, and not acquireTimeout`)
})

t.test('requests that wait when the engine closes with nothing in flight are rejected', async (t) => {
  const proxy = await startPgProxy(t, db)
  const app = await setUp(t, { max: 1, acquireTimeout: 60000 }, {
    connectionString: proxy.connectionString(db.connectionString), closeTimeout: 300
  })
  proxy.pause()
  const waiting: Promise<any>[] = [app.db.query('SELECT 1'), app.db.scope((session) => session.query('SELECT 1')), app.db.lease(() => {}), app.db.ping(60000)]
  const start = performance.now()
  const closed = app.db.close()
  for (const each of waiting) await t.rejects(each, { code: /^FST_PG_SCOPE_(CLOSED|UNREACHABLE)$/ })
  await closed
  t.ok(performance.now() - start < 30000, 'and not after acquireTimeout')
  t.equal(app.db.stats().waiting, 0)
})
