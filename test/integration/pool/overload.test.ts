import type { AddressInfo } from 'node:net'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import pgScope, { type PoolOptions } from '../../../harness/plugin.ts'
import { type HttpResponse, send } from '../../../harness/http-client.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { strategies } from '../../../harness/variant.ts'
import { waitFor } from '../../../harness/wait-for.ts'

const db = await startTestPostgres(t)
await db.query('CREATE TABLE locked (id int)')

async function setUp (t: Test, pool: PoolOptions, milliseconds: number) {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(pgScope, { connectionString: db.connectionString, exposeErrors: true, pool })
  app.get('/', async (request) => {
    await request.db.query('SELECT pg_sleep($1)', [milliseconds / 1000])
    return { ok: true }
  })
  app.get('/locked', async (request) => (await request.db.query('SELECT count(*)::int FROM locked')).rows)
  await app.listen({ port: 0, backlog: 2000 })
  return app
}

type App = Awaited<ReturnType<typeof setUp>>
type Answer = HttpResponse & { wait: number }

async function get (app: App, path = '/'): Promise<Answer> {
  const start = performance.now()
  const response = await send((app.server.address() as AddressInfo).port, { path })
  return { ...response, wait: performance.now() - start }
}

const many = (app: App, count: number): Promise<Answer[]> => Promise.all(Array.from({ length: count }, () => get(app)))

const codes = (answers: Answer[]): Record<string, number> => {
  const counts: Record<string, number> = {}
  for (const { status, body } of answers) {
    const code = status === 200 ? 'served' : JSON.parse(body).code
    counts[code] = (counts[code] ?? 0) + 1
  }
  return counts
}

/** Every answer is a success, or a 503 that says when to come back. */
function check (t: Test, answers: Answer[]): void {
  t.same([...new Set(answers.map(({ status }) => status))].filter((status) => status !== 200 && status !== 503), [])
  t.ok(answers.every(({ status, headers }) => status === 200 || headers['retry-after'] === '1'))
  t.comment(JSON.stringify(codes(answers)))
}

for (const strategy of strategies) {
  // A connection for each request takes a hundred times as long.
  const count = strategy === 'null' ? 250 : 1000
  /** What this machine needs for that many requests at once, today. Milliseconds. */
  let needed = 0

  t.test(`strategy '${strategy}': ${count} requests at once on 10 connections are all served where there is time`, async (t) => {
    const app = await setUp(t, { strategy, max: 10, acquireTimeout: 60000 }, 1)
    const start = performance.now()
    const answers = await many(app, count)
    needed = performance.now() - start
    check(t, answers)
    t.same(codes(answers), { served: count })
    t.ok(app.db.stats().open <= 10)
    t.match(app.db.stats(), { inUse: 0, waiting: 0, counters: { acquired: count, timedOut: 0, refused: 0 } })
  })

  t.test(`strategy '${strategy}': with the defaults ${count} requests at once are all served, from a cold start`, async (t) => {
    // Those of the helper are not the defaults. A connection for each takes longer, and so does everything on a
    // slow or busy machine.
    const acquireTimeout = Math.max(strategy === 'null' ? 15000 : 5000, Math.round(4 * needed))
    t.comment(`needed: ${Math.round(needed)} ms, acquireTimeout: ${acquireTimeout} ms`)
    const app = await setUp(t, { strategy, acquireTimeout }, 1)
    const answers = await many(app, count)
    check(t, answers)
    t.same(codes(answers), { served: count })
  })

  t.test(`strategy '${strategy}': ${count} requests at once on 10 connections are served, or refused within acquireTimeout, where there is not`, async (t) => {
    const app = await setUp(t, { strategy, max: 10, acquireTimeout: 1500 }, 100)
    const answers = await many(app, count)
    check(t, answers)
    const counts = codes(answers)
    t.ok(counts.served! >= 10, 'some are served')
    t.ok(counts.served! < count, 'and not all')
    const longest = Math.max(...answers.map(({ wait }) => wait))
    t.ok(longest < Math.max(20000, 4 * needed), `no request waits for long: ${Math.round(longest)} ms`)
    // On a busy machine it may be new connections that take too long.
    const timedOut = (counts.FST_PG_SCOPE_POOL_EXHAUSTED ?? 0) + (counts.FST_PG_SCOPE_UNREACHABLE ?? 0)
    t.match(app.db.stats(), {
      inUse: 0,
      waiting: 0,
      counters: { acquired: counts.served!, timedOut, refused: counts.FST_PG_SCOPE_POOL_QUEUE_FULL ?? 0 }
    })
    t.equal((await get(app)).status, 200, 'and the next one is served')
  })

  t.test(`strategy '${strategy}': a request that could not be served in time is rejected at once`, async (t) => {
    // On a busy machine a session takes longer: long enough for thirty of them, and never for three hundred.
    const acquireTimeout = Math.max(5000, Math.round(200 * needed / count))
    const app = await setUp(t, { strategy, max: 1, acquireTimeout }, 50)
    const early = many(app, 300)
    await waitFor(() => app.db.stats().counters.acquired >= 30, { timeout: 60000 })
    const waiting = app.db.stats().waiting
    t.ok(waiting > 200)
    const late = await many(app, 20)
    t.same(codes(late), { FST_PG_SCOPE_POOL_QUEUE_FULL: 20 })
    t.match(
      JSON.parse(late[0]!.body).message,
      /at the current rate the wait would be \d+ ms, longer than pool\.acquireTimeout \(\d+ ms\)/
    )
    t.ok(app.db.stats().waiting > 0, 'while those who were there before still wait')
    check(t, [...late, ...await early])
    t.equal(app.db.stats().counters.refused, 20)
    t.equal((await get(app)).status, 200, 'and when the queue is empty, everybody is welcome')
  })
}

t.test('a queue that is short enough rejects no request, however long it stays full', async (t) => {
  const app = await setUp(t, { max: 2, acquireTimeout: 6000 }, 10)
  const start = performance.now()
  let served = 0
  await Promise.all(Array.from({ length: 30 }, async () => {
    while (served < 100 || performance.now() - start < 1500) {
      t.equal((await get(app)).status, 200)
      served++
    }
  }))
  t.match(app.db.stats().counters, { timedOut: 0, refused: 0 })
})

t.test('maxWaiting bounds the queue of 1,000 requests at once', async (t) => {
  const app = await setUp(t, { max: 10, maxWaiting: 50, acquireTimeout: 60000 }, 1)
  let most = 0
  const watch = setInterval(() => { most = Math.max(most, app.db.stats().waiting) }, 1)
  const answers = await many(app, 1000)
  clearInterval(watch)
  check(t, answers)
  const counts = codes(answers)
  t.equal((counts.served ?? 0) + (counts.FST_PG_SCOPE_POOL_QUEUE_FULL ?? 0), 1000)
  t.ok(counts.served! >= 60)
  t.ok(most <= 60, `${most} at the most: those for whom a connection is being opened count as well`)
})

t.test('a stall of the server that ends in time rejects no request', async (t) => {
  const app = await setUp(t, { max: 2, acquireTimeout: 10000 }, 1)
  const over = new AbortController()
  const clients = Promise.all(Array.from({ length: 20 }, async () => {
    const answers: Answer[] = []
    while (!over.signal.aborted) answers.push(await get(app, '/locked'))
    return answers
  }))
  await waitFor(() => app.db.stats().counters.acquired > 200)
  await db.query('BEGIN; LOCK TABLE locked; SELECT pg_sleep(1); COMMIT')
  const before = app.db.stats().counters.acquired
  await waitFor(() => app.db.stats().counters.acquired > before + 100)
  over.abort()
  t.same(Object.keys(codes((await clients).flat())), ['served'])
})
