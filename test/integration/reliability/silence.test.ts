import { stat } from 'node:fs'
import type { AddressInfo } from 'node:net'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import { startServer } from '../../../harness/reliability/server.ts'
import { pgScope, type PgScopeOptions } from '../../../lib/index.ts'
import { batchTimeout, answerTimeoutOf } from '../../../lib/exchange/answer-timeout.ts'
import { readStatement } from '../../../lib/exchange/read-statement.ts'
import { Statement } from '../../../lib/exchange/statement.ts'
import { send } from '../../../harness/http-client.ts'
import { startPgProxy } from '../../../harness/pg-proxy.ts'
import { waitFor } from '../../../harness/wait-for.ts'

const server = await startServer()
t.teardown(() => server.stop())
await server.query('CREATE TABLE things (id int)')

const limit = 300
/** For what the machine has to do besides; without the limit there is no answer at all. Milliseconds. */
const patience = 8000

async function setUp (t: Test, options: PgScopeOptions = {}) {
  await server.query('TRUNCATE things')
  const proxy = await startPgProxy(t, server)
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(pgScope, {
    connectionString: proxy.connectionString(server.connectionString),
    answerTimeout: limit,
    idleInTransactionTimeout: 1000,
    pool: { acquireTimeout: 30000 },
    ...options
  })
  app.get('/', async ({ db }) => (await db.query('SELECT 1 AS one')).rows[0])
  const listen = async (): Promise<number> => {
    await app.listen({ port: 0, host: '127.0.0.1' })
    return (app.server.address() as AddressInfo).port
  }
  const swallow = (): void => proxy.pause({ drop: true })
  return { app, proxy, listen, swallow }
}

const rows = async (): Promise<number[]> => (await server.query<{ id: number }>('SELECT id FROM things')).map(({ id }) => id)

/** The answer, and how long it took in milliseconds. */
async function timed (port: number, path = '/'): Promise<{ status: number, code: string | undefined, message: string | undefined, took: number }> {
  const began = performance.now()
  const { status, body } = await send(port, { path })
  return { status, ...JSON.parse(body), took: performance.now() - began }
}

function soon (t: Test, took: number, times = 1): void {
  t.ok(took >= limit * times * 0.9 && took < limit * times + patience, `the answer came after ${Math.round(took)} ms`)
}

t.test('a COMMIT that is lost on the network is reported as unknown, and its connection is closed', async (t) => {
  const { app, proxy, listen, swallow } = await setUp(t)
  app.get('/write', async ({ db }) => {
    await db.query('INSERT INTO things VALUES (1)')
    swallow()
    return { ok: true }
  })
  const port = await listen()
  const { status, code, took } = await timed(port, '/write')
  t.same([status, code], [500, 'FST_PG_SCOPE_COMMIT_UNKNOWN'])
  soon(t, took)
  t.match(app.db.stats(), { inUse: 0, open: 0 })
  proxy.resume()
  t.equal((await timed(port)).status, 200)
  await waitFor(async () => await server.idleInTransaction() === 0)
  t.same(await rows(), [], 'it had not arrived')
})

t.test('a COMMIT whose answer is lost on the network is reported as unknown, and is saved', async (t) => {
  const { app, proxy, listen, swallow } = await setUp(t, { answerTimeout: 2000 })
  app.get('/write', async ({ db }) => {
    await db.query('INSERT INTO things VALUES (1)')
    proxy.delay(500)
    waitFor(async () => (await rows()).length === 1).then(swallow)
    return { ok: true }
  })
  const port = await listen()
  t.match(await timed(port, '/write'), { status: 500, code: 'FST_PG_SCOPE_COMMIT_UNKNOWN' })
  t.same(await rows(), [1])
  proxy.delay(0)
  proxy.resume()
})

t.test('a statement in the middle of a transaction is told that the connection was lost, and why', async (t) => {
  const { app, proxy, listen, swallow } = await setUp(t)
  let cause: unknown
  app.get('/write', async ({ db }) => {
    await db.query('INSERT INTO things VALUES (1)')
    swallow()
    await db.query('INSERT INTO things VALUES (2)').catch((error) => {
      cause = error.cause
      throw error
    })
  })
  const { status, code, took } = await timed(await listen(), '/write')
  t.same([status, code], [503, 'FST_PG_SCOPE_CONNECTION_LOST'])
  t.match(cause, { message: `the server owed an answer and sent nothing for ${limit} ms (answerTimeout)` })
  soon(t, took)
  proxy.resume()
  t.same(await rows(), [])
})

t.test('a kept connection that has gone silent while idle costs a wait, and no request', async (t) => {
  const { app, proxy, listen, swallow } = await setUp(t, { pool: { max: 1 } })
  const port = await listen()
  await timed(port)
  swallow()
  setTimeout(() => proxy.resume(), limit * 0.8)
  const { status, took } = await timed(port)
  t.equal(status, 200)
  soon(t, took)
  t.equal(app.db.stats().counters.resent, 1)
})

t.test('a statement by itself is not sent again: it may have been committed', async (t) => {
  const { app, proxy, listen, swallow } = await setUp(t, { mode: 'autocommit' })
  app.get('/write', async ({ db }) => {
    swallow()
    return (await db.query('INSERT INTO things VALUES (1)')).rowCount
  })
  const port = await listen()
  await timed(port)
  const { code, took } = await timed(port, '/write')
  t.equal(code, 'FST_PG_SCOPE_COMMIT_UNKNOWN')
  soon(t, took)
  proxy.resume()
})

t.test('what a server is too slow with is cancelled there', async (t) => {
  const { app, listen } = await setUp(t)
  app.get('/slow', async ({ db }) => {
    await db.query('SELECT 1')
    await db.query('SELECT pg_sleep(60)')
  })
  t.match(await timed(await listen(), '/slow'), { status: 503, code: 'FST_PG_SCOPE_CONNECTION_LOST' })
  await waitFor(async () => (await server.query("SELECT FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'")).length === 0)
  t.equal(app.db.stats().counters.canceled, 1)
})

t.test('a long answer that keeps coming is no silence', async (t) => {
  const { app, listen } = await setUp(t)
  app.get('/long', async ({ db }) => ({ rows: (await db.query("SELECT pg_sleep(0.1), repeat('x', 20000) FROM generate_series(1, 12)")).rowCount }))
  const answer = await timed(await listen(), '/long')
  t.match(answer, { status: 200, rows: 12 })
  t.ok(answer.took > 3 * limit)
})

t.test('answers that came while the process was busy are not overlooked', async (t) => {
  // Not through the proxy, which is this process as well.
  const { app, listen } = await setUp(t, { connectionString: server.connectionString })
  app.get('/busy', async ({ db }) => {
    const answer = db.query('SELECT 1 AS one, pg_sleep(0.1)')
    const busy = (): void => { for (const until = performance.now() + 2 * limit; performance.now() < until;); }
    // In a callback of the event loop's poll phase, behind which timers come before the next look at the sockets.
    setTimeout(() => stat('.', busy), 20)
    return (await answer).rows[0]
  })
  t.match(await timed(await listen(), '/busy'), { status: 200, one: 1 })
  t.match(app.db.stats().counters, { destroyed: 0, canceled: 0 })
})

t.test('without a setting there is no limit, and 0 switches it off', async (t) => {
  const { app, listen } = await setUp(t, { answerTimeout: undefined })
  const slow = { handler: async ({ db }: { db: { query (text: string): Promise<{ rowCount: number | null }> } }) => ({ rows: (await db.query('SELECT pg_sleep(0.6)')).rowCount }) }
  app.get('/slow', slow)
  app.get('/off', { ...slow, config: { db: { answerTimeout: 0, statementTimeout: 1000 } } })
  const port = await listen()
  t.match(await timed(port, '/slow'), { status: 200, rows: 1 })
  t.match(await timed(port, '/off'), { status: 200, rows: 1 })
})

t.test('the limit follows from the server\'s own, with ten seconds for it to speak first', async (t) => {
  const one = [new Statement('SELECT 1')]
  const three = [...one, ...one, ...one]
  t.equal(batchTimeout(answerTimeoutOf({}), one), 0)
  t.equal(batchTimeout(answerTimeoutOf({ statementTimeout: 1000 }), one), 11000)
  t.equal(batchTimeout(answerTimeoutOf({ statementTimeout: 1000 }), three), 13000, 'each statement of a batch may take as long')
  t.equal(batchTimeout(answerTimeoutOf({ statementTimeout: 1000, transactionTimeout: 2000 }), three), 12000)
  t.equal(batchTimeout(answerTimeoutOf({ statementTimeout: 1000 }), [readStatement('SELECT 1; SELECT 2')]), 0)
  t.equal(batchTimeout(answerTimeoutOf({ statementTimeout: 2147483647 }), one), 2147483647)
  t.equal(batchTimeout(answerTimeoutOf({ statementTimeout: 1000, answerTimeout: 500 }), three), 500)
  t.equal(batchTimeout(answerTimeoutOf({ statementTimeout: 1000, answerTimeout: 0 }), three), 0)
})
