import t from 'tap'
import { startApp } from './app.ts'
import { startPgProxy } from '../../../harness/pg-proxy.ts'
import { eachPgBouncer, startPgBouncer } from '../../../harness/pgbouncer.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { waitFor } from '../../../harness/wait-for.ts'

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

for (const strategy of ['queue', 'null'] as const) {
  t.test(`server connections that die between two requests cost none (${strategy}): one, all, and by a restart`, async t => {
    await eachPgBouncer(t, async (t, program) => {
      const pgbouncer = await startPgBouncer(t, postgres, { program })
      const { db } = await startApp(t, { connectionString: pgbouncer.connectionString, pool: { strategy, max: 4 } })
      const kill = async (limit: number | null): Promise<void> => { await postgres.query('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = \'client backend\' AND pid <> pg_backend_pid() LIMIT $1', [limit]) }
      const failures = async (run: () => Promise<unknown>): Promise<string[]> => {
        const answers = await Promise.allSettled(Array.from({ length: 6 }, run))
        return answers.filter((answer) => answer.status === 'rejected').map(({ reason }) => `${reason.code} ${reason.cause}`)
      }
      // PgBouncer 1.18 closes a client's connection so that its last words may be lost: then nobody can know.
      const unknown = /^FST_PG_SCOPE_COMMIT_UNKNOWN Error: (?:Connection terminated|read ECONNRESET)/
      const serve = async (): Promise<void> => {
        const [transactions, singles] = await Promise.all([failures(() => db.scope((session) => session.query('SELECT 1'))), failures(() => db.query('SELECT 1'))])
        t.same(transactions, [])
        t.same(singles.filter((failure) => !unknown.test(failure)), [])
      }
      await serve()
      for (let i = 0; i < 20; i++) {
        await kill(i % 2 === 0 ? 1 : null)
        await serve()
      }
      for (const mode of ['fast', 'immediate'] as const) {
        await postgres.restart(mode)
        await serve()
      }
    })
  })
}

t.test('an app starts behind a PgBouncer whose server connections die meanwhile, or whose server is restarted', async t => {
  await eachPgBouncer(t, async (t, program) => {
    const pgbouncer = await startPgBouncer(t, postgres, { program })
    const start = async (): Promise<void> => {
      const { app, db } = await startApp(t, { connectionString: pgbouncer.connectionString })
      t.match(db.pooler, { kind: 'pgbouncer' })
      await app.close()
    }
    await start()
    const kill = () => postgres.query('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = \'client backend\' AND pid <> pg_backend_pid()')
    for (let i = 0; i < 20; i++) await Promise.all([kill(), start()])
    for (const mode of ['fast', 'immediate'] as const) await Promise.all([postgres.restart(mode), start()])
  })
})

t.test('a PgBouncer whose server stays away fails the boot within its time', async t => {
  await eachPgBouncer(t, async (t, program) => {
    const proxy = await startPgProxy(t, postgres)
    const pgbouncer = await startPgBouncer(t, { ...postgres, port: proxy.port }, { program })
    proxy.refuse()
    const begun = performance.now()
    await t.rejects(startApp(t, { connectionString: pgbouncer.connectionString, pool: { acquireTimeout: 500 } }), { code: 'FST_PG_SCOPE_UNREACHABLE' })
    t.ok(performance.now() - begun < 20000)
  })
})
