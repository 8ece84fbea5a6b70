// In mode 'autocommit' calls end as in mode 'transaction', wherever there is something to end.
import Fastify from 'fastify'
import t from 'tap'
import pgScope from '../../../harness/plugin.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'

const postgres = await startTestPostgres(t)
await postgres.query('CREATE TABLE things (id int); CREATE TABLE owners (id int PRIMARY KEY)')
await postgres.query('CREATE TABLE pets (owner int REFERENCES owners DEFERRABLE INITIALLY DEFERRED)')
const app = Fastify()
await app.register(pgScope, { connectionString: postgres.connectionString, mode: 'autocommit' })
t.teardown(() => app.close())
const { db } = app
const things = async (): Promise<number[]> => (await postgres.query<{ id: number }>('SELECT id FROM things ORDER BY id')).rows.map(({ id }) => id)
t.beforeEach(async () => { await postgres.query('TRUNCATE things') })

for (const name of ['commit', 'rollback'] as const) {
  t.test(`${name}() in fn of the outermost transaction(fn) is refused, and its work is rolled back`, async (t) => {
    for (const outer of [false, true]) {
      await t.rejects(db.scope((session) => session.transaction(async (inner) => {
        await inner.query('INSERT INTO things VALUES (1)')
        await t.rejects((outer ? session : inner)[name](), { code: 'FST_PG_SCOPE_SESSION_STATE' })
      })), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED', cause: { code: 'FST_PG_SCOPE_SESSION_STATE' } })
    }
    t.same(await things(), [])
  })
}

t.test('a scope whose signal is aborted rejects if a transaction was open, and only then', async (t) => {
  for (const begins of [false, true]) {
    const controller = new AbortController()
    const scope = db.scope(async (session) => {
      if (begins) await session.savepoint()
      await session.query('INSERT INTO things VALUES ($1)', [Number(begins)])
      controller.abort()
    }, { signal: controller.signal })
    if (begins) await t.rejects(scope, { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED' })
    else await scope
  }
  t.same(await things(), [0], 'what is committed is not said to be lost')
})

t.test('a closed session refuses every call', async (t) => {
  for (const mode of ['transaction', 'autocommit'] as const) {
    const session = db.session({ mode })
    await session.query('SELECT 1')
    await session.close()
    const closed = { code: 'FST_PG_SCOPE_SESSION_CLOSED' }
    await t.rejects(session.query('SELECT 1'), closed, mode)
    await t.rejects(session.commit(), closed, mode)
    await t.rejects(session.rollback(), closed, mode)
    await t.rejects(session.savepoint(), closed, mode)
    await t.rejects(session.transaction(async () => {}), closed, mode)
    t.throws(() => session.afterCommit(() => {}), closed, mode)
    t.throws(() => session.afterRollback(() => {}), closed, mode)
  }
})

t.test('a commit() that the server refuses ends the transaction that savepoint() has begun', async (t) => {
  await db.scope(async (session) => {
    await session.savepoint()
    await session.query('INSERT INTO pets VALUES (1)')
    await t.rejects(session.commit(), { code: 'FST_PG_SCOPE_CONSTRAINT_VIOLATION' })
    await session.query('INSERT INTO things VALUES (1)')
    t.same(await things(), [1], 'the next statement is committed by itself')
  })
})

t.test('one that is refused before COMMIT leaves it open for rollback()', async (t) => {
  await db.scope(async (session) => {
    await session.savepoint()
    await t.rejects(session.query('SELECT 1 / 0'), { code: '22012' })
    await t.rejects(session.commit(), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED' })
    await session.rollback()
    await session.query('INSERT INTO things VALUES (1)')
  })
  t.same(await things(), [1])
})
