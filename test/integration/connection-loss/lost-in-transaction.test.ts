import { setTimeout as sleep } from 'node:timers/promises'
import type { AddressInfo } from 'node:net'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import pgScope, { type PgScopeOptions } from '../../../harness/plugin.ts'
import { hangUp, send } from '../../../harness/http-client.ts'
import { startPgProxy } from '../../../harness/pg-proxy.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { onlyDirect, onlyQueue } from '../../../harness/variant.ts'
import { waitFor } from '../../../harness/wait-for.ts'

const db = await startTestPostgres(t)
await db.query('CREATE TABLE things (id int PRIMARY KEY)')

const astray: unknown[] = []
process.on('unhandledRejection', (error) => astray.push(error))
process.on('uncaughtExceptionMonitor', (error) => astray.push(error))

async function setUp (t: Test, options: PgScopeOptions = {}) {
  await killAll() // a backend behind a silent network does not notice that its client has gone
  await db.query('TRUNCATE things')
  const proxy = await startPgProxy(t, db)
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(pgScope, {
    connectionString: proxy.connectionString(db.connectionString), closeTimeout: 200, pool: { max: 1 }, ...options
  })
  /** What the handler waits for between its two statements. */
  let pause: () => unknown = () => {}
  app.get('/', async (request) => (await request.db.query('SELECT 1 AS one')).rows[0])
  app.post('/one', async (request) => {
    await request.db.query('INSERT INTO things VALUES (1)')
    await pause()
    return { ok: true }
  })
  app.post('/two', async (request) => {
    await request.db.query('INSERT INTO things VALUES (1)')
    await pause()
    await request.db.query('INSERT INTO things VALUES (2)')
    return { ok: true }
  })
  app.post('/swallow', async (request) => {
    await request.db.query('INSERT INTO things VALUES (1)')
    await pause()
    await request.db.query('INSERT INTO things VALUES (2)').catch(() => {})
    return { ok: true }
  })
  app.post('/fail', async (request) => {
    await request.db.query('INSERT INTO things VALUES (1)')
    await pause()
    throw new Error('the handler fails')
  })
  app.get('/slow', async (request) => (await request.db.query('SELECT pg_sleep(60)')).rows[0])
  await app.listen({ port: 0 })
  await waitFor(async () => (await db.activity()).length === 0)
  const port = (app.server.address() as AddressInfo).port
  return {
    app,
    proxy,
    port,
    between: (fn: typeof pause) => { pause = fn },
    get: (path = '/') => send(port, { path }),
    post: (path: string) => send(port, { method: 'POST', path })
  }
}

const things = async (): Promise<number[]> => (await db.query('SELECT id FROM things ORDER BY id')).rows.map(({ id }) => id)

async function killAll (): Promise<void> {
  await db.query('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name <> \'test admin\' AND backend_type = \'client backend\'')
  await waitFor(async () => (await db.activity()).length === 0)
}

async function whole (t: Test, { app, get }: Awaited<ReturnType<typeof setUp>>): Promise<void> {
  await waitFor(() => app.db.stats().inUse === 0, { message: 'every connection came back' })
  t.equal((await get()).status, 200, 'the next request is served')
  await waitFor(async () => (await db.activity()).every(({ state }) => !state?.startsWith('idle in transaction')), { message: 'nothing is left in a transaction' })
  t.same(astray.splice(0), [], 'no unhandled rejection, no uncaught exception')
}

for (const path of ['/one', '/two', '/swallow']) {
  t.test(`a backend killed while the handler is away from the database (${path}): 503, nothing is saved`, async (t) => {
    const set = await setUp(t)
    set.between(killAll)
    const answer = await set.post(path)
    t.equal(answer.status, 503)
    t.equal(answer.headers['retry-after'], '1')
    t.match(JSON.parse(answer.body), { code: 'FST_PG_SCOPE_CONNECTION_LOST' })
    t.same(await things(), [])
    await whole(t, set)
  })
}

t.test('a backend killed while the handler is away, which then throws: the client gets the handler\'s error', async (t) => {
  const set = await setUp(t)
  set.between(killAll)
  const answer = await set.post('/fail')
  t.equal(answer.status, 500)
  t.match(JSON.parse(answer.body), { message: 'the handler fails' })
  await whole(t, set)
})

for (const [answered, after] of [['the server never saw', false], ['the server ran', true]] as const) {
  t.test(`a connection that dies unnoticed inside of a transaction, at a statement that ${answered}: what ran before is lost, so nothing is sent again`, async (t) => {
    const set = await setUp(t)
    await set.get()
    set.proxy.cutOn('VALUES (2)', { after })
    const answer = await set.post('/two')
    t.equal(answer.status, 503)
    t.match(JSON.parse(answer.body), { code: 'FST_PG_SCOPE_CONNECTION_LOST' })
    t.same(await things(), [])
    t.equal(set.app.db.stats().counters.resent, 0)
    await whole(t, set)
  })
}

t.test('a backend killed during a statement: 503, nothing is saved', async (t) => {
  const set = await setUp(t)
  const lost = t.rejects(set.app.db.scope(async (session) => {
    await session.query('INSERT INTO things VALUES (1)')
    await session.query('SELECT pg_sleep(60)')
  }), { code: 'FST_PG_SCOPE_CONNECTION_LOST', statusCode: 503, cause: { code: '57P01' } })
  await waitFor(async () => (await db.activity()).some(({ query, state }) => state === 'active' && query.includes('pg_sleep')))
  await killAll()
  await lost
  t.same(await things(), [])
  await whole(t, set)
})

t.test('a connection lost inside of transaction(fn), with the error caught: the work around it is not saved either', async (t) => {
  const set = await setUp(t)
  const outcome = set.app.db.scope(async (session) => {
    await session.query('INSERT INTO things VALUES (1)')
    await session.transaction(async () => {
      await killAll()
      await session.query('INSERT INTO things VALUES (2)')
    }).catch(() => {})
  })
  await t.rejects(outcome, { code: 'FST_PG_SCOPE_CONNECTION_LOST' })
  t.same(await things(), [])
  await whole(t, set)
})

for (const [when, after, rows] of [['before COMMIT reached the server', false, []], ['after COMMIT ran', true, [1]]] as const) {
  for (const reset of [false, true]) {
    t.test(`the connection is ${reset ? 'reset' : 'closed'} ${when}: 500 COMMIT_UNKNOWN, never a success`, async (t) => {
      const set = await setUp(t)
      set.proxy.cutOn(/^commit$/i, { after, reset })
      const answer = await set.post('/one')
      t.equal(answer.status, 500)
      t.notOk('retry-after' in answer.headers, 'and no invitation to do it again')
      t.match(JSON.parse(answer.body), { code: 'FST_PG_SCOPE_COMMIT_UNKNOWN', message: /may be saved or not/ })
      t.same(await things(), rows)
      await whole(t, set)
    })
  }
}

t.test('ROLLBACK that is never answered: the client has its error, and the connection is given up', async (t) => {
  const set = await setUp(t)
  set.between(async () => { set.proxy.pause({ drop: true }) })
  const start = performance.now()
  const answer = await set.post('/fail')
  t.equal(answer.status, 500)
  t.ok(performance.now() - start < 8000, 'the answer does not wait for it')
  t.equal(set.app.db.stats().inUse, 1)
  await sleep(50)
  set.proxy.resume() // what has come until now is lost, and the old connection stays silent
  await waitFor(() => set.app.db.stats().inUse === 0)
  t.match(set.app.db.stats().counters, { destroyed: 1, rolledBack: 1 })
  t.same(await things(), [])
  t.equal((await set.get()).status, 200)
})

onlyQueue(t, 'no connection is used again').test('a hang-up cancels the statement on the server, and the connection is used again', async (t) => {
  const set = await setUp(t)
  const running = waitFor(async () => (await db.activity()).some(({ query, state }) => state === 'active' && query.includes('pg_sleep')))
  await hangUp(set.port, { path: '/slow' }, { after: running })
  await waitFor(() => set.app.db.stats().inUse === 0, { timeout: 1000, message: 'free within a second' })
  t.same((await db.activity()).filter(({ state }) => state === 'active'), [])
  await whole(t, set)
  t.match(set.app.db.stats().counters, { opened: 1, destroyed: 0, canceled: 1 })
})

t.test('a cancel that is not answered: the connection is closed, and another may be opened', async (t) => {
  const set = await setUp(t)
  const running = waitFor(async () => (await db.activity()).some(({ query, state }) => state === 'active' && query.includes('pg_sleep')))
  await hangUp(set.port, { path: '/slow' }, { after: running.then(() => set.proxy.pause({ drop: true })) })
  await waitFor(() => set.app.db.stats().inUse === 0)
  set.proxy.resume()
  t.match(set.app.db.stats().counters, { destroyed: 1 })
  t.equal((await set.get()).status, 200)
  t.same(astray.splice(0), [])
})

t.test('a cancel that is refused: the same', async (t) => {
  const set = await setUp(t)
  const running = waitFor(async () => (await db.activity()).some(({ query, state }) => state === 'active' && query.includes('pg_sleep')))
  await hangUp(set.port, { path: '/slow' }, { after: running.then(() => set.proxy.refuse()) })
  await waitFor(() => set.app.db.stats().inUse === 0)
  set.proxy.refuse(false)
  await whole(t, set)
})

onlyDirect(t, 'behind a pooler the first batch is sent again').test('statements called without await, and the connection dies: no error goes astray', async (t) => {
  const set = await setUp(t)
  const outcome = set.app.db.scope(async (session) => {
    session.query('SELECT pg_sleep(60)')
    session.query('INSERT INTO things VALUES (3)')
    await waitFor(async () => (await db.activity()).some(({ query }) => query.includes('pg_sleep')))
    await killAll()
    await sleep(20)
  })
  await t.rejects(outcome, { code: 'FST_PG_SCOPE_CONNECTION_LOST' })
  t.same(await things(), [])
  await whole(t, set)
})

t.test('ping(): in time, late, and without a server', async (t) => {
  const set = await setUp(t)
  const time = await set.app.db.ping()
  t.ok(time > 0 && time < 5000, `${time} ms`)
  set.proxy.pause({ drop: true })
  const start = performance.now()
  await t.rejects(set.app.db.ping(200), { code: 'FST_PG_SCOPE_UNREACHABLE', statusCode: 503, details: /did not answer within 200 ms/ })
  t.ok(performance.now() - start < 8000)
  await waitFor(() => set.app.db.stats().inUse === 0, { message: 'the late ping gives its connection up' })
  set.proxy.resume()
  t.ok(await set.app.db.ping())
  set.proxy.cut()
  set.proxy.refuse()
  await waitFor(() => set.app.db.stats().open === 0)
  await t.rejects(set.app.db.ping(), { code: 'FST_PG_SCOPE_UNREACHABLE' })
  set.proxy.refuse(false)
  for (const wrong of [0, -1, 1.5, '5s', null]) await t.rejects(set.app.db.ping(wrong as never), { code: 'FST_PG_SCOPE_OPTIONS' })
  await whole(t, set)
  await set.app.db.close()
  await t.rejects(set.app.db.ping(), { code: 'FST_PG_SCOPE_CLOSED' })
})

t.test('ping() of a pool that is busy waits no longer than its timeout, and leaves the queue', async (t) => {
  const set = await setUp(t)
  const session = set.app.db.session()
  await session.query('SELECT 1')
  await t.rejects(set.app.db.ping(100), { code: 'FST_PG_SCOPE_POOL_EXHAUSTED' })
  t.equal(set.app.db.stats().waiting, 0)
  await session.close()
  await whole(t, set)
})
