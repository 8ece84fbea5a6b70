import t from 'tap'
import { startApp } from './app.ts'
import { startPgProxy } from '../../helpers/pg-proxy.ts'
import { eachPgBouncer, startPgBouncer } from '../../helpers/pgbouncer.ts'
import { startTestPostgres } from '../../helpers/postgres.ts'
import { waitFor } from '../../helpers/wait-for.ts'

const postgres = await startTestPostgres(t)
await postgres.query('CREATE TABLE things (id int)')
const things = async (): Promise<number[]> => (await postgres.query('SELECT id FROM things ORDER BY id')).rows.map(({ id }) => id)

t.test('PgBouncer loses its server while a statement by itself runs: it says that the outcome is unknown, and never sends it twice', async t => {
  await eachPgBouncer(t, async (t, program) => {
    const proxy = await startPgProxy(t, postgres)
    const pgbouncer = await startPgBouncer(t, { ...postgres, port: proxy.port }, { program })
    const { db } = await startApp(t, { connectionString: pgbouncer.connectionString, pool: { max: 1 } })
    await db.query('TRUNCATE things')
    for (const after of [true, false]) {
      for (const reset of [true, false]) {
        await waitFor(() => db.query('SELECT 1'), { message: 'PgBouncer has a server again' })
        await postgres.query('TRUNCATE things')
        proxy.cutOn('INSERT', { after, reset })
        await t.rejects(db.query('INSERT INTO things VALUES (1)'), { code: 'FST_PG_SCOPE_COMMIT_UNKNOWN' })
        t.same(await things(), after ? [1] : [])
      }
    }
  })
})

t.test('PgBouncer loses its server while a transaction is open: it fails, and nothing of it is saved', async t => {
  await eachPgBouncer(t, async (t, program) => {
    const proxy = await startPgProxy(t, postgres)
    const pgbouncer = await startPgBouncer(t, { ...postgres, port: proxy.port }, { program })
    const { db } = await startApp(t, { connectionString: pgbouncer.connectionString, pool: { max: 1 } })
    await db.query('TRUNCATE things')
    await t.rejects(db.scope(async (session) => {
      await session.query('INSERT INTO things VALUES (1)')
      proxy.cut()
      await session.query('INSERT INTO things VALUES (2)')
    }), { code: 'FST_PG_SCOPE_CONNECTION_LOST' })
    t.same(await things(), [])
    await waitFor(() => db.query('SELECT 1'), { message: 'PgBouncer has a server again' })
    proxy.cutOn(/^commit$/i, { after: true })
    await t.rejects(db.scope((session) => session.query('INSERT INTO things VALUES (3)')), { code: 'FST_PG_SCOPE_COMMIT_UNKNOWN' })
    t.same(await things(), [3])
    await waitFor(() => db.query('SELECT 1'), { message: 'PgBouncer has a server again' })
  })
})

t.test('a server connection that dies between two transactions costs no request: PgBouncer replaces it', async t => {
  await eachPgBouncer(t, async (t, program) => {
    const pgbouncer = await startPgBouncer(t, postgres, { program })
    const { db } = await startApp(t, { connectionString: pgbouncer.connectionString, pool: { max: 1 } })
    for (let i = 0; i < 2; i++) {
      const { rows: [{ pid }] } = await db.query('SELECT pg_backend_pid() AS pid')
      await new Promise((resolve) => setTimeout(resolve, 1100)) // server_login_retry has run out since the last login
      await postgres.query('SELECT pg_terminate_backend($1, 1000)', [pid])
      t.equal((await db.scope((session) => session.query('SELECT 1'))).rowCount, 1)
    }
    t.equal(db.stats().counters.opened, 1)
  })
})
