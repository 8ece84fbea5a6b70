import { setMaxListeners } from 'node:events'
import t, { type Test } from 'tap'
import { startApp } from './app.ts'
import { openRequest } from '../../../harness/http-client.ts'
import { startPgProxy } from '../../../harness/pg-proxy.ts'
import { eachPgBouncer, startPgBouncer, type TestPgBouncer } from '../../../harness/pgbouncer.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { waitFor } from '../../../harness/wait-for.ts'

const postgres = await startTestPostgres(t)
await postgres.query('CREATE TABLE things (id int)')

const times = 40
const working = async (): Promise<number> => (await postgres.activity()).filter(({ state, query }) => state !== 'idle' && /pg_sleep|FETCH/.test(query)).length
const things = async (): Promise<number> => (await postgres.query('SELECT count(*)::int AS count FROM things')).rows[0].count

async function setUp (t: Test, pgbouncer: TestPgBouncer, max = times) {
  const proxy = await startPgProxy(t, pgbouncer)
  // A statement that waits in PgBouncer for a server connection cannot be cancelled: there is one for each.
  const { app, db, listen } = await startApp(t, {
    connectionString: proxy.connectionString(pgbouncer.connectionString), pool: { max }
  })
  app.get('/', async (request) => {
    await request.db.query('INSERT INTO things VALUES (1)')
    await request.db.query('SELECT pg_sleep(60)')
  })
  app.get('/first', async (request) => { await request.db.query('SELECT pg_sleep(60)') })
  app.get('/single', { config: { db: { mode: 'autocommit' } } }, async (request) => { await request.db.query('SELECT pg_sleep(60)') })
  const port = await listen()
  return {
    db,
    proxy,
    hangUps: (paths: string[]) => async () => {
      const sockets = paths.map((path) => openRequest(port, { path }).socket)
      await waitFor(async () => await working() === paths.length, { timeout: 20000, message: 'all are at work' })
      for (const socket of sockets) socket.destroy()
    }
  }
}

/** Of what was canceled nothing runs on, and whoever comes next is served: on connections that were kept. */
async function over (
  t: Test, { db, proxy }: Awaited<ReturnType<typeof setUp>>, pgbouncer: TestPgBouncer, pid: number | undefined
): Promise<void> {
  await waitFor(async () => db.stats().inUse === 0 && await working() === 0, { timeout: 20000, message: 'nothing is at work any more' })
  t.equal(pgbouncer.pid, pid, 'PgBouncer lives')
  t.equal(proxy.cancelsClosedEarly, 0, 'and nobody risked its life')
  t.equal(await things(), 0)
  t.equal((await db.query('SELECT 1')).rowCount, 1)
}

t.test(`${times} canceled statements are stopped on the server, and never end PgBouncer`, (t) => eachPgBouncer(t, async (t, program) => {
  const pgbouncer = await startPgBouncer(t, postgres, { program, settings: { default_pool_size: 2 * times } })
  const { pid } = pgbouncer
  const paths = (count: number): string[] => Array.from({ length: count }, (_, i) => ['/', '/first', '/single'][i % 3]!)

  await t.test('hang-ups one after another', async (t) => {
    const started = await setUp(t, pgbouncer)
    for (const path of paths(times)) {
      await started.hangUps([path])()
      await waitFor(() => started.db.stats().inUse === 0, { interval: 2, timeout: 20000 })
    }
    t.ok(started.proxy.cancels >= times)
    await over(t, started, pgbouncer, pid)
  })

  await t.test('hang-ups all at once', async (t) => {
    const started = await setUp(t, pgbouncer)
    await started.hangUps(paths(times))()
    await over(t, started, pgbouncer, pid)
    t.ok(started.proxy.cancels >= times)
  })

  await t.test('by a signal, all at once', async (t) => {
    const started = await setUp(t, pgbouncer)
    const controller = new AbortController()
    // One of each session, as long as it is open. From eleven on Node warns who has not said that so many are meant.
    setMaxListeners(times, controller.signal)
    const modeOf = (i: number) => i % 4 < 2 ? 'transaction' : 'autocommit'
    const scopes = Array.from({ length: times }, (_, i) => started.db.scope(async (session) => {
      await session.query('INSERT INTO things SELECT 1 WHERE false')
      await (i % 2 === 0 ? session.query('SELECT pg_sleep(60)') : session.stream('SELECT pg_sleep(60)').toArray())
    }, { signal: controller.signal, mode: modeOf(i) }))
    await waitFor(async () => await working() === times, { timeout: 20000, message: 'all are at work' })
    controller.abort()
    const outcomes = await Promise.allSettled(scopes)
    const codes = outcomes.map((outcome) => outcome.status === 'rejected' && outcome.reason.code)
    t.same(new Set(codes.filter((_, i) => modeOf(i) === 'transaction')), new Set(['FST_PG_SCOPE_CANCELED']))
    // Where a busy server takes more than a second to cancel, the connection is closed, and the outcome is unknown.
    const honest = ['FST_PG_SCOPE_CANCELED', 'FST_PG_SCOPE_COMMIT_UNKNOWN']
    t.same(codes.filter((code) => !honest.includes(code)), [])
    await over(t, started, pgbouncer, pid)
  })

  await t.test('a cancellation that comes too late stops no other statement', async (t) => {
    const started = await setUp(t, pgbouncer, 1)
    // A request that is on its way for longer than the statement still runs.
    started.proxy.delay(2)
    const finished = new AbortController()
    const failures: string[] = []
    let served = 0
    const others = Promise.all([1, 2].map(async () => {
      while (!finished.signal.aborted) await started.db.query('SELECT pg_sleep(0.003)').then(() => { served++ }, (error) => { failures.push(error.message) })
    }))
    for (let i = 0; i < times; i++) {
      const controller = new AbortController()
      const text = `SELECT pg_sleep(0.003), ${i} AS mine`
      await started.db.scope(async (session) => {
        const canceled = session.query(text)
        await waitFor(() => started.proxy.executed.includes(text), { interval: 0 })
        // From before it has arrived to after it was answered.
        setTimeout(() => controller.abort(), i % 8)
        await canceled
      }, { signal: controller.signal, mode: 'autocommit' }).catch(() => {})
    }
    finished.abort()
    await others
    t.same(failures, [])
    t.ok(served > 10)
    started.proxy.delay(0)
    await over(t, started, pgbouncer, pid)
  })

  t.notMatch(await pgbouncer.log(), /FATAL/)
}))
