// A statement by itself commits by itself: one that may have run is never sent again, however it was sent.
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import pgScope, { type Engine, type PgScopeOptions } from '../../../harness/plugin.ts'
import { startPgProxy } from '../../../harness/pg-proxy.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { onlyDirect, onlyQueue } from '../../../harness/variant.ts'
import { waitFor } from '../../../harness/wait-for.ts'

const postgres = await startTestPostgres(t)
await postgres.query('CREATE SEQUENCE calls')

async function setUp (t: Test, options: PgScopeOptions = {}) {
  await postgres.query('ALTER SEQUENCE calls RESTART')
  const proxy = await startPgProxy(t, postgres)
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(pgScope, {
    connectionString: proxy.connectionString(postgres.connectionString), ...options, pool: { max: 1, ...options.pool }
  })
  return { proxy, db: app.db }
}

/** How often a statement ran: a sequence keeps what a rollback takes back. */
const calls = async (): Promise<number> => {
  const { rows: [{ count }] } = await postgres.query('SELECT CASE WHEN is_called THEN last_value ELSE 0 END::int AS count FROM calls')
  return count
}

/** Kills the backend that runs the statement, once it runs. */
async function kill (): Promise<void> {
  await waitFor(async () => (await postgres.activity()).some(({ wait_event_type: type, query }) => type === 'Timeout' && query.includes('pg_sleep')))
  await postgres.query('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = \'Timeout\' AND query LIKE \'%pg_sleep%\'')
}

const text = (name: string): string => `SELECT nextval('calls') AS n, pg_sleep($1::float8) AS ${name}`

/** Ways of sending one statement. The argument is how long it takes. Seconds. */
const ways: Record<string, (db: Engine, seconds: number) => Promise<unknown>> = {
  'used often': (db, seconds) => db.query(text('often'), [seconds]),
  'with a name': (db, seconds) => db.query({ name: 'mine', text: text('named'), values: [seconds] }),
  'with settings in front': (db, seconds) => db.scope((session) => session.query(text('after_settings'), [seconds]), { mode: 'autocommit', settings: { 'app.tenant': 'a' } }),
  'with others in one text': (db, seconds) => db.query(`SELECT nextval('calls'); SELECT pg_sleep(${seconds})`),
  'in a session of mode autocommit': (db, seconds) => db.scope((session) => session.query(text('autocommit'), [seconds]), { mode: 'autocommit' })
}

for (const [name, run] of Object.entries(ways)) {
  for (const times of [0, 10]) {
    t.test(`a statement ${name} whose backend is terminated while it runs is not run again (used ${times} times before)`, async t => {
      const { db } = await setUp(t)
      for (let i = 0; i < times; i++) await run(db, 0)
      const [{ reason }] = await Promise.all([
        run(db, 30).then(() => ({ reason: { code: 'it resolved' } }), (reason) => ({ reason })),
        kill()
      ])
      t.match(reason, { code: 'FST_PG_SCOPE_COMMIT_UNKNOWN', statusCode: 500 })
      t.equal(await calls(), times + 1)
      await run(db, 0)
      t.equal(await calls(), times + 2, 'and the next one works')
    })
  }

  onlyDirect(onlyQueue(t, 'a kept connection'), 'PgBouncer notices it').test(`a statement ${name} that meets a backend which was terminated while idle runs once`, async t => {
    const { proxy, db } = await setUp(t)
    for (let i = 0; i < 10; i++) await run(db, 0)
    proxy.pause()
    await postgres.query('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = \'idle\' AND application_name NOT LIKE \'test admin\'')
    const outcome = run(db, 0).then(() => 'done', ({ code }) => code)
    proxy.resume()
    const known = name !== 'with others in one text'
    t.equal(await outcome, known ? 'done' : 'FST_PG_SCOPE_COMMIT_UNKNOWN', 'the simple protocol does not tell')
    t.equal(await calls(), 10 * 1 + (known ? 1 : 0))
  })
}

onlyQueue(t, 'a kept connection').test('a first batch that runs when its backend is terminated is sent again once, and its transaction fails the second time', async t => {
  const { db } = await setUp(t)
  for (let i = 0; i < 10; i++) await db.scope((session) => session.query(text('first'), [0]))
  const outcome = db.scope((session) => session.query(text('first'), [30])).then(() => 'done', ({ code }) => code)
  await kill()
  await kill()
  t.equal(await outcome, 'FST_PG_SCOPE_CONNECTION_LOST')
  t.equal(db.stats().counters.resent, 1)
  t.equal(await calls(), 12)
})

onlyDirect(onlyQueue(t, 'a kept connection'), 'PgBouncer answers by itself').test('a statement behind another session\'s COMMIT, which the server did not come to, is sent again', async t => {
  const { proxy, db } = await setUp(t)
  for (let i = 0; i < 10; i++) await db.query(text('behind'), [0])
  const first = db.session()
  await first.query('SELECT 1')
  const single = db.query(text('behind'), [0])
  proxy.pause()
  const commit = first.commit().then(() => 'committed', ({ code }) => code)
  await waitFor(() => db.stats().waiting === 0)
  await postgres.query('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = \'idle in transaction\'')
  await waitFor(async () => (await postgres.activity()).length === 0)
  proxy.resume()
  t.equal(await commit, 'FST_PG_SCOPE_COMMIT_UNKNOWN')
  await single
  t.equal(await calls(), 11)
  await first.close()
})
