import t from 'tap'
import Fastify from 'fastify'
import pgScope from '../../../harness/plugin.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import type { Session } from '../../../types/session.ts'

const postgres = await startTestPostgres(t)
await postgres.query('CREATE TABLE things (name text PRIMARY KEY)')
await postgres.query('CREATE TABLE later (id int PRIMARY KEY, other int REFERENCES later DEFERRABLE INITIALLY DEFERRED)')
const app = Fastify()
await app.register(pgScope, { connectionString: postgres.connectionString, mode: 'autocommit', pool: { max: 5 } })
t.teardown(() => app.close())

const { db } = app
const names = async (): Promise<string[]> => (await postgres.query('SELECT name FROM things ORDER BY name')).rows.map(({ name }) => name)
const insert = (session: Session, name: string) => session.query('INSERT INTO things VALUES ($1)', [name])
const unhandled: unknown[] = []
process.on('unhandledRejection', (error) => unhandled.push(error))

t.beforeEach(() => postgres.query('TRUNCATE things'))

t.test('savepoint() begins a transaction that all later calls join; release() commits, rollback() rolls back', async t => {
  await db.scope(async (session) => {
    const first = await session.savepoint()
    await Promise.all([insert(session, 'a'), insert(session, 'b'), session.transaction((session) => insert(session, 'c'))])
    t.same(await names(), [])
    await first.release()
    t.same(await names(), ['a', 'b', 'c'])
    const second = await session.savepoint('second')
    await insert(session, 'undone')
    for await (const { n } of session.stream('SELECT count(*)::int AS n FROM things')) t.equal(n, 4)
    await second.rollback()
    await insert(session, 'd')
    t.same(await names(), ['a', 'b', 'c', 'd'])
  })
})

t.test('calls keep their order, also where none is awaited', async t => {
  await db.scope(async (session) => {
    const savepoint = session.savepoint()
    insert(session, 'a')
    const released = (await savepoint).release()
    await Promise.all([insert(session, 'a').catch(({ code }) => t.equal(code, '23505')), released])
    const again = await session.savepoint()
    insert(session, 'b')
    again.rollback()
    const third = session.savepoint()
    insert(session, 'c')
    await (await third).release()
  })
  t.same(await names(), ['a', 'c'])
})

t.test('nested ones are savepoints, in each other and in transaction(fn)', async t => {
  await db.scope(async (session) => {
    const outer = await session.savepoint('outer')
    await insert(session, 'outer')
    const inner = await session.savepoint('inner')
    await t.rejects(outer.release(), { code: 'FST_PG_SCOPE_SESSION_STATE', details: /"outer" while savepoint "inner"/ })
    await t.rejects(insert(session, 'outer'), { code: '23505' })
    await inner.rollback()
    await session.transaction(async (session) => {
      await t.rejects(outer.release(), { code: 'FST_PG_SCOPE_SESSION_STATE' })
      const nested = await session.savepoint()
      await insert(session, 'undone')
      await nested.rollback()
    })
    await outer.release()
    await t.rejects(outer.release(), { code: 'FST_PG_SCOPE_SESSION_STATE', details: /after its end/ })
    await session.transaction(async (session) => {
      const savepoint = await session.savepoint()
      await insert(session, 'undone')
      await savepoint.rollback()
    })
  })
  t.same(await names(), ['outer'])
})

t.test('a failed one rejects release() and recovers by rollback()', async t => {
  await db.scope(async (session) => {
    const savepoint = await session.savepoint()
    await t.rejects(session.query('SELECT 1/0'), { code: '22012' })
    await t.rejects(insert(session, 'a'), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED' })
    await t.rejects(savepoint.release(), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED' })
    await t.rejects(insert(session, 'a'), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED' }, 'the transaction goes on')
    await savepoint.rollback()
    await insert(session, 'b')
  })
  t.same(await names(), ['b'])
})

t.test('a COMMIT that fails rejects release(), and the session goes on outside of a transaction', async t => {
  await db.scope(async (session) => {
    const savepoint = await session.savepoint()
    await session.query('INSERT INTO later VALUES (1, 2)')
    await t.rejects(savepoint.release(), { code: 'FST_PG_SCOPE_CONSTRAINT_VIOLATION' })
    await t.rejects(savepoint.rollback(), { code: 'FST_PG_SCOPE_SESSION_STATE' })
    await insert(session, 'a')
  })
  t.same(await names(), ['a'])
})

t.test('commit() and rollback() end it', async t => {
  const session = db.session()
  const first = await session.savepoint()
  await insert(session, 'a')
  await session.savepoint()
  await session.commit()
  t.same(await names(), ['a'])
  await t.rejects(first.release(), { code: 'FST_PG_SCOPE_SESSION_STATE' })
  await session.savepoint()
  await insert(session, 'undone')
  await session.rollback()
  await insert(session, 'b')
  await session.commit()
  await session.close()
  t.same(await names(), ['a', 'b'])
})

t.test('one that its author did not end is rolled back, and the answer or the scope fails', async t => {
  const app = Fastify()
  await app.register(pgScope, { connectionString: postgres.connectionString, mode: 'autocommit' })
  t.teardown(() => app.close())
  app.get('/', async (request) => {
    await request.db.savepoint('forgotten')
    await insert(request.db, 'undone')
    return {}
  })
  const response = await app.inject('/')
  t.equal(response.statusCode, 500)
  t.equal(response.json().code, 'FST_PG_SCOPE_TRANSACTION_ABORTED')
  await t.rejects(db.scope(async (session) => {
    await session.savepoint('forgotten')
    await insert(session, 'undone')
  }), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED', details: /"forgotten"/ })
  const session = db.session()
  await session.savepoint()
  await insert(session, 'undone')
  await session.close()
  t.same(await names(), [])
})

t.test('a release() that is not awaited belongs to the request, and so does its failure', async t => {
  await db.scope(async (session) => {
    const savepoint = await session.savepoint()
    insert(session, 'a')
    savepoint.release()
  })
  await t.rejects(db.scope(async (session) => {
    const savepoint = await session.savepoint()
    session.query('SELECT 1/0')
    savepoint.release()
  }), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED' })
  t.same(await names(), ['a'])
})

t.test('await using rolls back unless it was released', async t => {
  await db.scope(async (session) => {
    {
      await using savepoint = await session.savepoint()
      await insert(session, 'kept')
      await savepoint.release()
    }
    {
      await using savepoint = await session.savepoint()
      t.ok(savepoint)
      await session.savepoint()
      await insert(session, 'undone')
    }
    await insert(session, 'behind')
  })
  t.same(await names(), ['behind', 'kept'])
})

t.test('hooks that were registered inside wait for its outcome', async t => {
  const ran: string[] = []
  await db.scope(async (session) => {
    const first = await session.savepoint()
    session.afterCommit(() => { ran.push('never') })
    session.afterRollback(() => { ran.push('rolled back') })
    await insert(session, 'undone')
    await first.rollback()
    const second = await session.savepoint()
    session.afterCommit(() => { ran.push('committed') })
    await insert(session, 'a')
    t.same(ran, ['rolled back'])
    await second.release()
  })
  t.same(ran, ['rolled back', 'committed'])
})

t.test('every connection came back, and nothing was unhandled', async t => {
  t.match(db.stats(), { inUse: 0, waiting: 0 })
  t.same(unhandled, [])
})
