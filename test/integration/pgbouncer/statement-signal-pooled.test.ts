// `signal` of one statement behind PgBouncer: test/integration/session/statement-signal.test.ts has the rest.
import t from 'tap'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { waitFor } from '../../../harness/wait-for.ts'
import { startApp } from './app.ts'
import { eachPlace } from './places.ts'

const postgres = await startTestPostgres(t)
const canceled = { code: 'FST_PG_SCOPE_CANCELED' }
const autocommit = { mode: 'autocommit' } as const
const running = () => waitFor(async () => (await postgres.activity()).some(({ state }) => state === 'active'))

t.test('a signal cancels its statement on the server, and nothing else', (t) => eachPlace(t, postgres, ['transaction', 'session'], async (t, place) => {
  const { db } = await startApp(t, { connectionString: place.connectionString, pool: { max: 2 } })
  const start = () => {
    const controller = new AbortController()
    running().then(() => controller.abort())
    return { text: 'SELECT pg_sleep(60)', signal: controller.signal }
  }
  const idle = () => waitFor(async () => !(await postgres.activity()).some(({ state }) => state !== 'idle'))
  await t.rejects(db.query(start()), canceled)
  await idle()
  await t.rejects(db.scope((session) => session.query(start()), autocommit), canceled)
  await idle()
  await t.rejects(db.scope((session) => session.query(start())), canceled)
  await idle()
  await t.rejects(db.scope((session) => session.stream(start()).toArray()), canceled)
  await idle()
  await db.scope(async (session) => {
    await t.rejects(session.transaction((inner) => inner.query(start())), canceled)
    t.match((await session.query('SELECT 1 AS one')).rows, [{ one: 1 }])
  })
  t.match(await Promise.all([1, 2, 3].map((one) => db.query('SELECT $1::int AS one', [one]))), [1, 2, 3].map((one) => ({ rows: [{ one }] })))
}))
