import t, { type Test } from 'tap'
import { startApp, type TestApp } from './app.ts'
import { startLosingPooler } from '../../../harness/losing-pooler.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import type { Engine, PgScopeOptions } from '../../../lib/index.ts'

const postgres = await startTestPostgres(t)
await postgres.query(`
  CREATE TABLE entry (n int);
  CREATE TABLE late (n int UNIQUE DEFERRABLE INITIALLY DEFERRED);
  INSERT INTO late VALUES (0)`)

async function setUp (t: Test, options: PgScopeOptions = {}) {
  const pooler = await startLosingPooler(t, postgres)
  const connectionString = pooler.connectionString(postgres.connectionString)
  const started = await startApp(t, { connectionString, ...options })
  return { ...started, pooler }
}

const numbers = (count: number): number[] => Array.from({ length: count }, (_, n) => n)

/** Everything that is pipelined elsewhere. */
async function work ({ app, db }: Pick<TestApp, 'app' | 'db'>, t: Test): Promise<void> {
  const select = (on: Pick<Engine, 'query'>, n: number) => on.query('SELECT $1::int AS n', [n]).then(({ rows }) => rows[0].n)
  await db.scope(async (session) => {
    t.same(await Promise.all(numbers(5).map((n) => select(session, n))), numbers(5), 'statements at once')
    t.same((await session.stream('SELECT generate_series(1, 250) AS n', [], { batchSize: 100 }).toArray()).length, 250)
    for await (const row of session.stream('SELECT generate_series(1, 250) AS n', [], { batchSize: 100 })) if (row.n === 150) break
    await Promise.all([
      session.transaction((inner) => Promise.all([inner.query('INSERT INTO entry VALUES (1)'), select(inner, 2)])),
      session.transaction(async (inner) => { await inner.query('SELECT 1 / 0') }).catch(() => {}),
      select(session, 3)
    ])
  })
  t.same(await Promise.all(numbers(10).map((n) => select(db, n))), numbers(10), 'statements by themselves')
  await Promise.all(numbers(10).map((n) => db.scope((session) => select(session, n))))
  const autocommit = db.session({ mode: 'autocommit' })
  await Promise.all(numbers(5).map((n) => select(autocommit, n)))
  await autocommit.close()
  await t.rejects(db.scope((session) => session.query('INSERT INTO late VALUES (0)')), { code: 'FST_PG_SCOPE_CONSTRAINT_VIOLATION' }, 'COMMIT fails')
  for (const { statusCode } of await Promise.all(numbers(10).map(() => app.inject('/entries')))) t.equal(statusCode, 200)
}

for (const strategy of ['queue', 'null'] as const) {
  for (const startupCheck of [true, false]) {
    t.test(`'${strategy}', ${startupCheck ? 'with' : 'without'} a startup check: a pooler that loses pipelined answers gets one batch at a time, and nothing hangs`, async (t) => {
      const started = await setUp(t, { startupCheck, pool: { strategy, max: 3 } })
      const { app, db, pooler, log } = started
      app.get('/entries', async (request) => {
        await Promise.all([request.db.query('INSERT INTO entry VALUES (2)'), request.db.query('SELECT count(*) FROM entry')])
        return { ok: true }
      })
      await work(started, t)
      t.same([pooler.mostPending, pooler.lost], [1, 0])
      t.same(db.pooler, { kind: 'unknown' })
      t.match(log[0], { level: 30, msg: / behind a pooler that does not identify itself$/, pooler: { kind: 'unknown' } })
      t.equal(log.filter(({ level }) => level > 30).length, 0)
      t.match(db.stats(), { inUse: 0, waiting: 0 })
    })
  }
}

t.test('the rules of transaction mode hold: what belongs to a server connection is refused, and settings travel with BEGIN', async (t) => {
  const { db } = await setUp(t, { statementTimeout: 20000, resolveCommits: true })
  await t.rejects(db.query('LISTEN news'), { code: 'FST_PG_SCOPE_POOLER_UNSUPPORTED' })
  await db.scope(async (session) => {
    const { rows: [row] } = await session.query("SELECT current_setting('statement_timeout') AS timeout")
    t.equal(row.timeout, '20s')
    await session.query({ name: 'named', text: 'INSERT INTO entry VALUES (3)' })
    t.equal((await session.query('SELECT FROM pg_prepared_statements')).rowCount, 0)
  })
})

t.test('an answer that is lost all the same is an error', async (t) => {
  const { db, pooler } = await setUp(t, { answerTimeout: 200 })
  pooler.loseNext()
  t.same(await db.scope(async (session) => (await session.query('SELECT 1 AS one')).rows), [{ one: 1 }], 'the first batch is sent again')
  await t.rejects(db.scope(async (session) => {
    await session.query('SELECT 1')
    pooler.loseNext()
    await session.query('SELECT 1')
  }), { code: 'FST_PG_SCOPE_CONNECTION_LOST' })
  await db.query('SELECT 1') // which asks first what the new connection leads to
  pooler.loseNext()
  await t.rejects(db.query('SELECT 1'), { code: 'FST_PG_SCOPE_COMMIT_UNKNOWN' })
  await t.rejects(db.scope(async (session) => {
    await session.query('SELECT 1')
    pooler.loseNext()
  }), { code: 'FST_PG_SCOPE_COMMIT_UNKNOWN' })
  t.equal((await db.query('SELECT 1 AS one')).rows[0].one, 1)
  t.match(db.stats(), { inUse: 0, waiting: 0 })
})

t.test("with pooler: 'transaction' several batches are sent, and answers that are lost are errors", async (t) => {
  const { db, pooler } = await setUp(t, { pooler: 'transaction', answerTimeout: 200 })
  await t.rejects(db.scope(async (session) => {
    await session.query('SELECT 1')
    await Promise.all(numbers(5).map((n) => session.query('SELECT $1::int', [n])))
  }), { code: 'FST_PG_SCOPE_CONNECTION_LOST' })
  t.ok(pooler.lost > 0)
})
