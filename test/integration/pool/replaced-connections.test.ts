import Fastify from 'fastify'
import t, { type Test } from 'tap'
import pgScope, { type PoolOptions, type Session } from '../../../harness/plugin.ts'
import { startPgProxy } from '../../../harness/pg-proxy.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { onlyDirect, onlyQueue } from '../../../harness/variant.ts'
import { waitFor } from '../../../harness/wait-for.ts'

const db = await startTestPostgres(t)
const kept = onlyQueue(t, 'none is kept')
const backends = onlyDirect(kept, 'connections are told apart by their backends')

async function setUp (t: Test, pool: PoolOptions) {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(pgScope, { connectionString: db.connectionString, pool })
  return app
}

const pid = async (session: Pick<Session, 'query'>): Promise<number> => (await session.query('SELECT pg_backend_pid() AS pid')).rows[0].pid

backends.test('a connection is replaced after it has served maxUses sessions', async (t) => {
  const { db } = await setUp(t, { max: 1, maxUses: 2 })
  const pids = []
  for (let i = 0; i < 5; i++) pids.push(await db.scope(pid))
  t.equal(pids[0], pids[1])
  t.equal(pids[2], pids[3])
  t.equal(new Set(pids).size, 3)
  t.match(db.stats(), { idle: 1, counters: { opened: 3, destroyed: 2 } })
})

backends.test('sessions that got a connection by a hand-over count among its uses', async (t) => {
  const { db } = await setUp(t, { max: 1, maxUses: 2 })
  const pids = await Promise.all(Array.from({ length: 6 }, () => db.scope(pid)))
  t.equal(new Set(pids).size, 3)
  t.match(db.stats().counters, { opened: 3, acquired: 6 })
})

t.test('maxUses: 1 serves each session by a new connection', async (t) => {
  const { db } = await setUp(t, { max: 2, maxUses: 1 })
  await Promise.all(Array.from({ length: 5 }, () => db.scope(pid)))
  t.match(db.stats(), { idle: 0, counters: { opened: 5, acquired: 5 } })
})

t.test('stats() tells the version that the server announces', async (t) => {
  const { db } = await setUp(t, {})
  const { rows: [row] } = await db.query('SHOW server_version')
  t.equal(db.stats().serverVersion, row.server_version)
})

t.test('stats() tells no version before the first connection', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(pgScope, { connectionString: db.connectionString, startupCheck: false })
  t.equal(app.db.stats().serverVersion, undefined)
  await app.db.query('SELECT 1')
  t.type(app.db.stats().serverVersion, 'string')
})

kept.test('reset() resolves when all idle connections are closed', async (t) => {
  const { db } = await setUp(t, { max: 3, min: 3 })
  t.equal(db.stats().idle, 3)
  await db.reset()
  t.match(db.stats(), { open: 0, idle: 0, inUse: 0, counters: { destroyed: 3 } })
  await db.query('SELECT 1')
  t.match(db.stats(), { open: 1, idle: 1 })
})

backends.test('reset() leaves running work alone, and waiting sessions get new connections', async (t) => {
  const { db } = await setUp(t, { max: 1 })
  const session = db.session()
  const before = await pid(session)
  const waiting = db.scope(pid)
  await db.reset()
  t.equal(await pid(session), before)
  await session.commit()
  t.not(await waiting, before)
  t.match(db.stats(), { open: 1, counters: { opened: 2, destroyed: 1, handedOver: 0 } })
})

backends.test('reset() while connections are handed over: no later session gets one from before', async (t) => {
  const { db } = await setUp(t, { max: 2, acquireTimeout: 30000 })
  let isCalled = false
  let wasReset = false
  const stale: string[] = []
  const before = new Set<number>()
  const sessions = Array.from({ length: 40 }, (_, i) => db.scope(async (session) => {
    const id = await pid(session)
    if (wasReset && before.has(id)) stale.push(`session ${i}`)
    if (!isCalled) before.add(id)
    if (i === 10) {
      isCalled = true
      db.reset().catch(() => {})
      // What holds a connection now may finish on it.
      await session.query('SELECT pg_sleep(0.1)')
      setImmediate(() => { wasReset = true })
    }
    await session.query('SELECT 1')
  }))
  await Promise.all(sessions)
  t.ok(before.size > 0)
  t.same(stale, [], 'none after the sessions that held one')
  t.match(db.stats(), { inUse: 0, waiting: 0 })
  t.ok(db.stats().counters.handedOver > 0, 'hand-over goes on')
})

kept.test('reset() while a connection is being opened: it serves nothing', async (t) => {
  const proxy = await startPgProxy(t, db)
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(pgScope, {
    connectionString: proxy.connectionString(db.connectionString),
    pool: { max: 1, acquireTimeout: 30000 }
  })
  await app.ready()
  await app.db.reset()
  const { counters } = app.db.stats()
  const loggedIn = proxy.connections
  proxy.pause()
  const query = app.db.query('SELECT 1 AS one')
  await waitFor(() => proxy.connections > loggedIn)
  const reset = app.db.reset()
  proxy.resume()
  t.same((await query).rows, [{ one: 1 }])
  await reset
  await app.db.query('SELECT 1')
  t.match(app.db.stats(), { open: 1, counters: { opened: counters.opened + 2, destroyed: counters.destroyed + 1 } })
})

t.test('sessions that ask during reset() are served, whatever the strategy', async (t) => {
  const { db } = await setUp(t, { max: 2 })
  await Promise.all([db.query('SELECT 1'), db.query('SELECT 1')])
  const [numbers] = await Promise.all([
    Promise.all([1, 2, 3, 4].map(async (n) => (await db.query('SELECT $1::int AS n', [n])).rows[0].n)),
    db.reset(),
    db.reset()
  ])
  t.same(numbers, [1, 2, 3, 4])
  t.match(db.stats(), { inUse: 0, waiting: 0 })
})

t.test('reset() is refused after close()', async (t) => {
  const { db } = await setUp(t, {})
  await db.close()
  await t.rejects(db.reset(), { code: 'FST_PG_SCOPE_CLOSED' })
})
