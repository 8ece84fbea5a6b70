import { setTimeout as sleep } from 'node:timers/promises'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import pgScope, { type PoolOptions } from '../../../harness/plugin.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { onlyDirect, onlyQueue } from '../../../harness/variant.ts'
import { waitFor } from '../../../harness/wait-for.ts'

const db = await startTestPostgres(t, { settings: { max_connections: 10, superuser_reserved_connections: 3 } })
await db.query('CREATE ROLE app LOGIN PASSWORD \'app\'')
const { host, port, database } = db

async function setUp (t: Test, pool: PoolOptions) {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(pgScope, { host, port, database, user: 'app', password: 'app', pool })
  await waitFor(async () => (await db.activity()).length === 0, { message: 'the startup check is over' })
  return app
}

const full = onlyDirect(t, 'it is the server that is full')
const work = 'SELECT pg_sleep(0.01)'

onlyQueue(full, 'four are opened, and kept').test('there are never more than max connections, whatever the load', async (t) => {
  const app = await setUp(t, { max: 4 })
  const seen: number[] = []
  const over = new AbortController()
  const watch = (async () => { while (!over.signal.aborted) seen.push((await db.activity()).length) })()
  const results = await Promise.allSettled(Array.from({ length: 300 }, (_, i) => app.db.scope(async (session) => {
    await session.query(work)
    if (i % 3 === 0) throw new Error('rolled back')
  })))
  over.abort()
  await watch
  t.equal(results.filter(({ status }) => status === 'fulfilled').length, 200)
  t.equal(Math.max(...seen), 4, `${seen.length} looks`)
  t.equal(app.db.stats().counters.opened, 4)
})

full.test('a full server: sessions that cannot get a new connection wait for one of the pool\'s', async (t) => {
  // The server has 7 places for this role, the pool wants 20: from a cold start, under load, and again when all are
  // warm.
  const app = await setUp(t, { max: 20 })
  for (let round = 0; round < 3; round++) {
    const results = await Promise.allSettled(Array.from({
      length: 60
    }, () => app.db.scope((session) => session.query(work))))
    t.same(results.filter((result) => result.status === 'rejected').map(({ reason }) => reason.message), [])
  }
  // Connections that the server is about to refuse are counted until it has.
  await waitFor(() => app.db.stats().open <= 7)
  t.match(app.db.stats(), { inUse: 0, waiting: 0 })
})

full.test('a server that is full without us: each is refused at once, with what to do', async (t) => {
  const other = await setUp(t, { max: 7, idleTimeout: 0 })
  const app = await setUp(t, { max: 4, acquireTimeout: 60000 })
  const sessions = Array.from({ length: 7 }, () => other.db.session())
  await Promise.all(sessions.map((session) => session.query('SELECT 1')))
  const start = performance.now()
  const results = await Promise.allSettled(Array.from({ length: 30 }, () => app.db.query('SELECT 1')))
  t.ok(performance.now() - start < 30000, 'and not after acquireTimeout')
  for (const result of results) {
    t.match(result, { status: 'rejected', reason: { code: 'FST_PG_SCOPE_UNREACHABLE', details: /no connection left.*Lower pool\.max, or raise max_connections/ } })
  }
  t.match(app.db.stats(), { inUse: 0, waiting: 0 })
  await Promise.all(sessions.map((session) => session.close()))
  await other.close()
  await waitFor(async () => (await db.activity()).length === 0)
  t.equal((await app.db.query('SELECT 1')).rowCount, 1, 'and is served when there is a place again')
})

full.test('a full server: a session that waits for one of the pool\'s own does so no longer than acquireTimeout', async (t) => {
  const app = await setUp(t, { max: 20, acquireTimeout: 1500 })
  const sessions = Array.from({ length: 7 }, () => app.db.session())
  await Promise.all(sessions.map((session) => session.query('SELECT 1')))
  const start = performance.now()
  const late = app.db.query('SELECT 1')
  await t.rejects(late, { code: 'FST_PG_SCOPE_UNREACHABLE', details: /no connection left/ })
  t.ok(performance.now() - start >= 1499)
  const patient = app.db.query('SELECT 1')
  await sleep(50)
  await sessions[0]!.close()
  t.equal((await patient).rowCount, 1)
  await Promise.all(sessions.map((session) => session.close()))
})
