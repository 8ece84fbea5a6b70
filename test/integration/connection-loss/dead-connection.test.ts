import { setTimeout as sleep } from 'node:timers/promises'
import type { AddressInfo } from 'node:net'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import pgScope, { type PgScopeOptions } from '../../../harness/plugin.ts'
import { send } from '../../../harness/http-client.ts'
import { startPgProxy } from '../../../harness/pg-proxy.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { keptBackends, onlyDirect, onlyQueue, onlyWithIdle } from '../../../harness/variant.ts'
import { waitFor } from '../../../harness/wait-for.ts'

const db = await startTestPostgres(t)
await db.query('CREATE TABLE things (id int PRIMARY KEY)')

// Registered before everything else, so that nothing that goes astray is missed.
const astray: unknown[] = []
process.on('unhandledRejection', (error) => astray.push(error))
process.on('uncaughtExceptionMonitor', (error) => astray.push(error))

async function setUp (t: Test, options: PgScopeOptions = {}) {
  await db.query('TRUNCATE things')
  const proxy = await startPgProxy(t, db)
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(pgScope, { connectionString: proxy.connectionString(db.connectionString), applicationName: 'shop', ...options })
  app.get('/', async (request) => (await request.db.query('SELECT pg_backend_pid() AS pid')).rows[0])
  app.post('/things/:id', async (request, reply) => {
    await request.db.query('INSERT INTO things VALUES ($1)', [(request.params as { id: string }).id])
    return reply.code(201).send({ ok: true })
  })
  await app.listen({ port: 0 })
  await waitFor(async () => (await db.activity()).length === keptBackends(options.pool?.min))
  const port = (app.server.address() as AddressInfo).port
  return { app, proxy, port, get: () => send(port), put: (id: number) => send(port, { method: 'POST', path: `/things/${id}` }) }
}

const things = async (): Promise<number[]> => (await db.query('SELECT id FROM things ORDER BY id')).rows.map(({ id }) => id)
const kill = (pid: number) => db.query('SELECT pg_terminate_backend($1)', [pid])

/** Everything came back, the pool still serves, and no error went astray. */
async function whole (t: Test, { app, get }: Awaited<ReturnType<typeof setUp>>): Promise<void> {
  t.match(app.db.stats(), { inUse: 0, waiting: 0 }, 'every connection came back')
  t.equal((await get()).status, 200, 'the next request is served')
  t.same((await db.activity()).filter(({ state }) => state?.startsWith('idle in transaction')), [], 'nothing is left in a transaction')
  t.same(astray.splice(0), [], 'no unhandled rejection, no uncaught exception')
}

onlyWithIdle(t, 'no backend is idle').test('200 backends killed while idle, one after another between requests: no request fails, 0 of many', async (t) => {
  const set = await setUp(t, { pool: { max: 4 } })
  const failures: string[] = []
  const ids: number[] = []
  let next = 0
  let killed = 0
  const put = async (): Promise<void> => {
    const id = ++next
    const answer = await set.put(id)
    if (answer.status === 201) ids.push(id)
    else failures.push(answer.body)
  }
  await Promise.all([put(), put(), put(), put()])
  while (killed < 200) {
    // Nothing is in flight at this moment, so that whatever is hit is idle; the requests follow at its heels.
    const { rowCount } = await db.query('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = \'shop\' ORDER BY random() LIMIT 1')
    killed += rowCount!
    await Promise.all([put(), put(), put(), put(), put()])
  }
  t.same(failures, [], `of ${next} requests`)
  t.same(await things(), ids.sort((a, b) => a - b), 'each success is saved, and nothing else')
  await whole(t, set)
})

t.test('all idle backends killed at once: every one of many requests at once is served', async (t) => {
  const set = await setUp(t, { pool: { max: 5, min: 5 } })
  for (let round = 0; round < 5; round++) {
    await db.query('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = \'shop\'')
    const answers = await Promise.all(Array.from({ length: 20 }, () => set.get()))
    t.same(answers.map(({ status }) => status), Array(20).fill(200))
  }
  await whole(t, set)
})

onlyQueue(t, 'a kept connection').test('a dead connection is replaced when the first batch is sent on it, without a ping', async (t) => {
  const set = await setUp(t, { pool: { max: 1 } })
  await set.get()
  set.proxy.cutOn('BEGIN')
  set.proxy.reset()
  const answer = await set.put(1)
  t.equal(answer.status, 201)
  t.same(await things(), [1], 'once, not twice')
  t.match(set.app.db.stats().counters, { resent: 1, opened: 2, destroyed: 1 })
  set.proxy.reset()
  await set.put(2)
  t.equal(set.proxy.roundTrips, 2, 'and otherwise costs nothing: BEGIN with the statement, COMMIT')
  await whole(t, set)
})

onlyQueue(t, 'a kept connection').test('also when the server ran the first batch and its answer was lost: nothing was committed', async (t) => {
  const set = await setUp(t, { pool: { max: 1 } })
  await set.get()
  set.proxy.cutOn('INSERT', { after: true })
  t.equal((await set.put(1)).status, 201)
  t.same(await things(), [1])
  t.equal(set.app.db.stats().counters.resent, 1)
  await whole(t, set)
})

onlyQueue(t, 'a kept connection').test('statements that were called together all move to the new connection, in order and with their values', async (t) => {
  const set = await setUp(t, { pool: { max: 1 } })
  await set.get()
  set.proxy.cutOn('BEGIN', { reset: true })
  const results = await set.app.db.scope((session) => Promise.all([
    session.query('INSERT INTO things VALUES ($1) RETURNING id', [1]),
    session.query('SELECT count(*)::int AS count FROM things'),
    session.query({ name: 'sum', text: 'SELECT $1::int + $2::int AS sum', values: [20, 22] })
  ]))
  t.same(results.map(({ rows }) => rows), [[{ id: 1 }], [{ count: 1 }], [{ sum: 42 }]])
  await whole(t, set)
})

onlyQueue(t, 'a kept connection').test('dead twice: CONNECTION_LOST, 503 with Retry-After, and nothing saved', async (t) => {
  const set = await setUp(t, { pool: { max: 1 } })
  await set.get()
  set.proxy.cutOn('BEGIN', { times: 2 })
  const answer = await set.put(1)
  t.equal(answer.status, 503)
  t.equal(answer.headers['retry-after'], '1')
  t.match(JSON.parse(answer.body), { code: 'FST_PG_SCOPE_CONNECTION_LOST', message: /Nothing of this transaction is saved/ })
  t.same(await things(), [])
  t.equal(set.app.db.stats().counters.resent, 1)
  await whole(t, set)
})

onlyDirect(t, 'behind a pooler it is').test('a new connection that dies at its first batch is not tried again', async (t) => {
  const set = await setUp(t, { pool: { max: 1 } })
  set.proxy.cutOn('BEGIN')
  t.equal((await set.put(1)).status, 503)
  t.equal(set.app.db.stats().counters.resent, 0)
  await whole(t, set)
})

onlyQueue(t, 'a kept connection').test('dead, and the server cannot be reached either: UNREACHABLE', async (t) => {
  const set = await setUp(t, { pool: { max: 1 } })
  await set.get()
  set.proxy.cutOn('BEGIN')
  set.proxy.refuse()
  const answer = await set.put(1)
  t.equal(answer.status, 503)
  t.match(JSON.parse(answer.body), { code: 'FST_PG_SCOPE_UNREACHABLE' })
  set.proxy.refuse(false)
  await whole(t, set)
})

t.test('all connections dead and unnoticed: every one of many requests at once is served', async (t) => {
  const set = await setUp(t, { pool: { max: 4, min: 4 } })
  await Promise.all([1, 2, 3, 4].map(() => set.get()))
  const dead = new Set(set.proxy.perConnection.keys())
  set.proxy.cutOn((statement, connection) => statement === 'BEGIN' && dead.has(connection), { times: 99 })
  const answers = await Promise.all(Array.from({ length: 20 }, () => set.get()))
  t.same(answers.map(({ status }) => status), Array(20).fill(200))
  await whole(t, set)
})

t.test('cut right before a request: it is served', async (t) => {
  const set = await setUp(t, { pool: { max: 2 } })
  for (const reset of [false, true]) {
    for (let id = 0; id < 20; id++) {
      set.proxy.cut({ reset })
      t.equal((await set.get()).status, 200)
    }
  }
  await whole(t, set)
})

for (const mode of ['fast', 'immediate'] as const) {
  t.test(`a server restart (${mode}) between requests: once it is back no request fails`, async (t) => {
    const set = await setUp(t, { pool: { max: 4 } })
    await Promise.all([set.get(), set.get(), set.get(), set.get()])
    await db.restart(mode)
    const answers = await Promise.all(Array.from({ length: 12 }, () => set.get()))
    t.same(answers.map(({ status }) => status), Array(12).fill(200))
    t.equal((await set.app.db.query('SELECT 1')).rowCount, 1)
    await whole(t, set)
  })
}

t.test('a server restart under load: each answer is a success that is saved or an error that says what it is', async (t) => {
  const set = await setUp(t, { pool: { max: 4, acquireTimeout: 5000 } })
  const saved: number[] = []
  const unknown: number[] = []
  const over = new AbortController()
  let next = 0
  const client = async (): Promise<void> => {
    while (!over.signal.aborted) {
      const id = ++next
      const { status, body } = await set.put(id)
      if (status === 201) saved.push(id)
      else {
        const { code } = JSON.parse(body)
        if (code === 'FST_PG_SCOPE_COMMIT_UNKNOWN') unknown.push(id)
        else if (!['FST_PG_SCOPE_UNREACHABLE', 'FST_PG_SCOPE_CONNECTION_LOST'].includes(code)) t.fail(`${status} ${body}`)
        await sleep(5)
      }
    }
  }
  const clients = Array.from({ length: 8 }, client)
  await sleep(300)
  await db.restart()
  await sleep(300)
  over.abort()
  await Promise.all(clients)
  const rows = await things()
  t.same(saved.filter((id) => !rows.includes(id)), [], 'no success without its row')
  t.same(rows.filter((id) => !saved.includes(id) && !unknown.includes(id)), [], 'no row without its success')
  await whole(t, set)
})

onlyDirect(t, 'PgBouncer hides the death of a backend').test('autocommit: a backend that was killed while idle is replaced; where it cannot be known whether it ran, the error says so', async (t) => {
  const set = await setUp(t, { pool: { max: 1 } })
  const pid = async (): Promise<number> => (await set.app.db.query('SELECT pg_backend_pid() AS pid')).rows[0].pid
  for (let i = 0; i < 10; i++) {
    await kill(await pid())
    await waitFor(() => set.app.db.stats().idle === 0)
    t.ok(await pid())
  }
  set.proxy.cutOn('INSERT', { after: true })
  await t.rejects(set.app.db.query('INSERT INTO things VALUES (1)'), { code: 'FST_PG_SCOPE_COMMIT_UNKNOWN', statusCode: 500 })
  t.same(await things(), [1], 'it may have run')
  set.proxy.cutOn('INSERT')
  await t.rejects(set.app.db.query('INSERT INTO things VALUES (2)'), { code: 'FST_PG_SCOPE_COMMIT_UNKNOWN' })
  t.same(await things(), [1], 'or not, and never twice')
  await whole(t, set)
})
