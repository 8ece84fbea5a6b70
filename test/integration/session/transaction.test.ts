import t from 'tap'
import Fastify from 'fastify'
import pgScope from '../../../harness/plugin.ts'
import { startPgProxy } from '../../../harness/pg-proxy.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { keptConnections } from '../../../harness/variant.ts'
import type { Test } from 'tap'
import type { PgScopeOptions } from '../../../types/options.ts'

const postgres = await startTestPostgres(t)
await postgres.query('CREATE TABLE things (name text PRIMARY KEY)')
await postgres.query('CREATE TABLE parts (thing text REFERENCES things DEFERRABLE INITIALLY DEFERRED)')

async function setUp (t: Test, options: PgScopeOptions = {}) {
  await postgres.query('TRUNCATE things, parts')
  const app = Fastify()
  await app.register(pgScope, { connectionString: postgres.connectionString, ...options })
  t.teardown(() => app.close())
  return app.db
}

const names = async (): Promise<string[]> => (await postgres.query('SELECT name FROM things ORDER BY name')).rows.map(({ name }) => name)
const insert = 'INSERT INTO things VALUES ($1)'

t.test('a session opens nothing until its first statement, and its state says where it is', async t => {
  const db = await setUp(t)
  const session = db.session()
  t.equal(session.state, 'idle')
  t.equal(db.stats().open, 0)
  const answer = session.query('SELECT 1')
  t.equal(session.state, 'opening')
  await answer
  t.equal(session.state, 'active')
  const committed = session.commit()
  await committed
  t.equal(session.state, 'idle')
  t.match(db.stats(), { inUse: 0, idle: keptConnections(1) })
  await session.close()
  t.equal(session.state, 'closed')
})

t.test('a scope commits when its function resolves, and hands its result on', async t => {
  const db = await setUp(t)
  const result = {}
  t.equal(await db.scope(async (session) => {
    await session.query(insert, ['a'])
    t.same(await names(), [], 'not before')
    return result
  }), result)
  t.same(await names(), ['a'])
  t.match(db.stats(), { inUse: 0, counters: { committed: 1, rolledBack: 0 } })
})

t.test('a scope rolls back when its function rejects, and rejects with the very same error', async t => {
  const db = await setUp(t)
  for (const thrown of [new Error('mine'), 'a string', undefined, null]) {
    const caught = await db.scope(async (session) => {
      await session.query(insert, ['a'])
      throw thrown
    }).then(() => 'it resolved', (error) => error)
    t.equal(caught, thrown)
  }
  const caught = await db.scope((session) => { throw session }).catch((error) => error)
  t.equal(caught.state, 'closed', 'a function that throws at once')
  t.same(await names(), [])
  t.equal(db.stats().inUse, 0)
})

t.test('a scope rejects with the error of the statement that failed, as it came', async t => {
  const db = await setUp(t)
  let seen: unknown
  const caught = await db.scope((session) => session.query('SELECT 1/0').catch((error) => {
    seen = error
    throw error
  })).catch((error) => error)
  t.equal(caught, seen)
  t.equal(caught.code, '22012')
})

t.test('a caught SQL error is no success', async t => {
  const db = await setUp(t)
  await t.rejects(db.scope(async (session) => {
    await session.query(insert, ['a'])
    await session.query('SELECT 1/0').catch(() => {})
    return 'fine'
  }), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED', statusCode: 500, cause: { code: '22012' } })
  t.same(await names(), [])
})

t.test('a statement that is not awaited is part of the transaction, and so is its failure', async t => {
  const db = await setUp(t)
  await db.scope((session) => { session.query(insert, ['a']) })
  t.same(await names(), ['a'])
  await t.rejects(db.scope((session) => { session.query(insert, ['a']) }), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED', cause: { code: '23505' } })
})

t.test('after a failed statement others are refused at once with the first error as cause, until rollback()', async t => {
  const proxy = await startPgProxy(t, postgres)
  const db = await setUp(t, { connectionString: proxy.connectionString(postgres.connectionString) })
  const session = db.session()
  await session.query(insert, ['a'])
  const first = await session.query('SELECT 1/0').catch((error) => error)
  t.equal(session.state, 'failed')
  proxy.reset()
  for (let i = 0; i < 2; i++) {
    const error = await session.query('SELECT 1').catch((error) => error)
    t.equal(error.code, 'FST_PG_SCOPE_TRANSACTION_ABORTED')
    t.equal(error.cause, first)
  }
  await t.rejects(session.transaction(() => t.fail('it ran')), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED' })
  t.equal(proxy.syncs, 0, 'nothing was sent for them')
  await session.rollback()
  t.equal(session.state, 'idle')
  t.same((await session.query('SELECT 1 AS a')).rows, [{ a: 1 }])
  await session.close()
  t.same(await names(), [])
})

t.test('commit() of a failed transaction rejects, and the session stays failed', async t => {
  const db = await setUp(t)
  const session = db.session()
  await session.query('SELECT 1/0').catch(() => {})
  await t.rejects(session.commit(), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED', cause: { code: '22012' } })
  t.equal(session.state, 'failed')
  await session.rollback()
  await session.commit()
  await session.close()
  t.match(db.stats(), { inUse: 0, counters: { committed: 0 } })
})

t.test('a transaction that the server made to fail is noticed by COMMIT\'s own answer', async t => {
  const db = await setUp(t)
  await t.rejects(db.scope(async (session) => {
    await session.query(insert, ['a'])
    await session.query('INSERT INTO parts VALUES ($1)', ['nothing'])
  }), { code: 'FST_PG_SCOPE_CONSTRAINT_VIOLATION', statusCode: 409, cause: { code: '23503' } })
  t.same(await names(), [])
  t.match(db.stats(), { inUse: 0, idle: keptConnections(1) }, 'the connection is healthy')
})

t.test('commit() by hand saves at once; the next statement begins another transaction', async t => {
  const db = await setUp(t)
  await t.rejects(db.scope(async (session) => {
    await session.query(insert, ['a'])
    const { rows: [first] } = await session.query('SELECT pg_current_xact_id() AS id')
    await session.commit()
    t.equal(session.state, 'idle')
    t.equal(db.stats().inUse, 0, 'no connection is held in between')
    t.same(await names(), ['a'])
    await session.query(insert, ['b'])
    const { rows: [second] } = await session.query('SELECT pg_current_xact_id() AS id')
    t.not(first.id, second.id)
    throw new Error('late')
  }), { message: 'late' })
  t.same(await names(), ['a'])
})

t.test('rollback() by hand gives up what was done, and the session goes on', async t => {
  const db = await setUp(t)
  await db.scope(async (session) => {
    await session.query(insert, ['a'])
    await session.rollback()
    await session.query(insert, ['b'])
  })
  t.same(await names(), ['b'])
})

t.test('commit() and rollback() without a transaction do nothing', async t => {
  const db = await setUp(t)
  const session = db.session()
  await session.commit()
  await session.rollback()
  t.equal(session.state, 'idle')
  await session.close()
  t.equal(db.stats().open, 0)
})

t.test('commit() that a deferred constraint refuses rejects; the session can begin anew', async t => {
  const db = await setUp(t)
  await db.scope(async (session) => {
    await session.query('INSERT INTO parts VALUES ($1)', ['nothing'])
    await t.rejects(session.commit(), { code: 'FST_PG_SCOPE_CONSTRAINT_VIOLATION' })
    t.equal(session.state, 'idle')
    await session.query(insert, ['a'])
  })
  t.same(await names(), ['a'])
})

t.test('statements behind a commit() that is not awaited belong to the next transaction', async t => {
  const db = await setUp(t)
  const session = db.session()
  const calls = [session.query(insert, ['a']), session.commit(), session.query(insert, ['b']), session.query(insert, ['c'])]
  await Promise.all(calls)
  t.same(await names(), ['a'])
  await session.rollback()
  t.same(await names(), ['a'])
  await session.close()
})

t.test('commit() and rollback() take effect where they were called, however many wait', async t => {
  const db = await setUp(t)
  const session = db.session()
  await Promise.all([
    session.query(insert, ['a']), session.commit(),
    session.query(insert, ['b']), session.rollback(),
    session.query(insert, ['c']), session.commit(),
    session.query(insert, ['d'])
  ])
  t.same(await names(), ['a', 'c'])
  await session.close()
  t.same(await names(), ['a', 'c'])
})

t.test('a scope saves the statements behind a commit() that is not awaited', async t => {
  const db = await setUp(t)
  await db.scope((session) => {
    session.query(insert, ['a'])
    session.commit()
    session.query(insert, ['b'])
  })
  t.same(await names(), ['a', 'b'])
})

t.test('a scope fails by a statement behind a commit() that is not awaited', async t => {
  const db = await setUp(t)
  await t.rejects(db.scope((session) => {
    session.query(insert, ['a'])
    session.commit()
    session.query(insert, ['a'])
  }), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED', cause: { code: '23505' } })
  t.same(await names(), ['a'])
})

t.test('transaction(fn) behind a rollback() that is not awaited runs in the next transaction', async t => {
  const db = await setUp(t)
  await db.scope(async (session) => {
    await session.query('SELECT 1/0').catch(() => {})
    session.rollback()
    await session.transaction((session) => session.query(insert, ['a']))
  })
  t.same(await names(), ['a'])
})

t.test('a rejected commit() does not hold up what was called behind it', async t => {
  const db = await setUp(t)
  const session = db.session()
  const [part, commit, thing] = await Promise.allSettled([
    session.query('INSERT INTO parts VALUES ($1)', ['nothing']), session.commit(), session.query(insert, ['a'])
  ])
  t.match([part!.status, commit!.status, thing!.status], ['fulfilled', 'rejected', 'fulfilled'])
  await session.commit()
  await session.close()
  t.same(await names(), ['a'])
})

t.test('setRollbackOnly() keeps the work from being saved, and changes nothing else', async t => {
  const db = await setUp(t)
  t.equal(await db.scope(async (session) => {
    await session.query(insert, ['a'])
    session.setRollbackOnly('a dry run')
    await session.query(insert, ['b'])
    await t.rejects(session.commit(), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED', details: /a dry run/ })
    return 'fine'
  }), 'fine')
  t.same(await names(), [])
  t.equal(db.stats().inUse, 0)
})

t.test('`await using` rolls back what was not committed, and gives the connection back', async t => {
  const db = await setUp(t)
  {
    await using session = db.session()
    await session.query(insert, ['a'])
    await session.commit()
    await session.query(insert, ['b'])
    t.equal(db.stats().inUse, 1)
  }
  t.same(await names(), ['a'])
  t.match(db.stats(), { inUse: 0, idle: keptConnections(1) })
})

t.test('a closed session refuses everything, opens nothing, and close() can be called again', async t => {
  const db = await setUp(t)
  const session = db.session()
  await session.close()
  await session.close()
  const closed = { code: 'FST_PG_SCOPE_SESSION_CLOSED', details: /app\.db\.scope/ }
  await t.rejects(session.query('SELECT 1'), closed)
  await t.rejects(session.commit(), closed)
  await t.rejects(session.rollback(), closed)
  await t.rejects(session.transaction(() => t.fail('it ran')), closed)
  t.throws(() => session.afterCommit(() => {}), closed)
  t.throws(() => session.afterRollback(() => {}), closed)
  await t.rejects(session.stream('SELECT 1').toArray(), closed)
  t.equal(db.stats().open, 0)
})

t.test('BEGIN that fails keeps the statement behind it from running', async t => {
  const db = await setUp(t)
  for (const options of [{ role: 'nobody_knows' }, { settings: { work_mem: 'much' } }, { settings: { no_such_setting: 1 } }]) {
    const session = db.session(options)
    const results = await Promise.allSettled([session.query(insert, ['a']), session.query(insert, ['b'])])
    t.match(results, [{ status: 'rejected', reason: { code: /^22023|42704$/ } }, { status: 'rejected' }], JSON.stringify(options))
    t.equal(session.state, 'failed')
    await t.rejects(session.query(insert, ['c']), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED', cause: { code: /^22023|42704$/ } })
    await session.close()
  }
  await t.rejects(db.scope((session) => session.query(insert, ['a']), { role: 'nobody_knows' }), { code: '22023' })
  t.same(await names(), [])
  t.match(db.stats(), { inUse: 0, idle: keptConnections(1) }, 'the connections are healthy')
})

t.test('commit() saves nothing where BEGIN failed, whatever the handler made of it', async t => {
  const db = await setUp(t)
  await t.rejects(db.scope((session) => session.query(insert, ['a']).catch(() => {}), { role: 'nobody_knows' }), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED' })
  t.same(await names(), [])
})

t.test('things that are no functions are refused', async t => {
  const db = await setUp(t)
  await t.rejects(db.scope(null as never), { code: 'FST_PG_SCOPE_QUERY_INVALID', details: /got null/ })
  const session = db.session()
  await t.rejects(session.transaction('x' as never), { code: 'FST_PG_SCOPE_QUERY_INVALID', details: /got a string/ })
  t.throws(() => session.afterCommit(1 as never), { code: 'FST_PG_SCOPE_QUERY_INVALID', details: /got a number/ })
  t.throws(() => session.afterRollback(null as never), { code: 'FST_PG_SCOPE_QUERY_INVALID', details: /got null/ })
  await session.close()
})

t.test('rollback() waits for what was called before it, in whatever state the session is', { timeout: 20000 }, async t => {
  const db = await setUp(t)
  const session = db.session()
  const several = session.query("INSERT INTO things VALUES ('a'); SELECT 1")
  await session.rollback()
  await several
  t.equal(session.state, 'idle')
  const first = session.query(insert, ['a'])
  while (db.stats().inUse === 0) await new Promise((resolve) => setImmediate(resolve))
  const second = session.query(insert, ['b'])
  await session.rollback()
  await Promise.all([first, second])
  await session.close()
  t.same(await names(), [])
})

t.test('rollback() of a session that got no connection leaves it usable', async t => {
  const proxy = await startPgProxy(t, postgres)
  proxy.refuse()
  const db = await setUp(t, {
    connectionString: proxy.connectionString(postgres.connectionString), startupCheck: false
  })
  const session = db.session()
  const [answer, rolledBack] = await Promise.allSettled([session.query(insert, ['a']), session.rollback()])
  t.match(answer, { status: 'rejected', reason: { code: 'FST_PG_SCOPE_UNREACHABLE' } })
  t.equal(rolledBack.status, 'fulfilled')
  t.equal(session.state, 'idle')
  proxy.refuse(false)
  await session.query(insert, ['b'])
  await session.commit()
  await session.close()
  t.same(await names(), ['b'])
})

t.test('COMMIT that the server answers with ROLLBACK, without an error, is a failure', async t => {
  const db = await setUp(t)
  await t.rejects(db.scope(async (session) => {
    await session.query(insert, ['a'])
    const stream = session.stream('SELECT generate_series(1, 100)', [], { batchSize: 10 })
    await session.query('CLOSE ALL')
    // CLOSE fails unseen by anybody, and COMMIT is on its way behind it.
    stream.destroy()
  }), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED', cause: { code: '34000' } })
  t.same(await names(), [])
  t.match(db.stats(), { inUse: 0, counters: { committed: 0 } })
})
