import t from 'tap'
import Fastify from 'fastify'
import pgScope from '../../../harness/plugin.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'

const postgres = await startTestPostgres(t)
await postgres.query('CREATE TABLE parts (thing int PRIMARY KEY, whole int REFERENCES parts DEFERRABLE INITIALLY DEFERRED)')
const lines: { level: number, msg: string, err?: { message: string } }[] = []
const app = Fastify({ logger: { level: 'warn', stream: { write: (line: string) => { lines.push(JSON.parse(line)) } } } })
await app.register(pgScope, { connectionString: postgres.connectionString })
app.post('/ok', async (request) => {
  request.db.afterCommit(async () => { ran.push((await postgres.query('SELECT count(*)::int AS n FROM parts')).rows[0].n) })
  await request.db.query('INSERT INTO parts VALUES (100)')
  return {}
})
t.teardown(() => app.close())

const { db } = app
let ran: unknown[] = []
const note = (what: unknown) => () => { ran.push(what) }

t.beforeEach(() => {
  ran = []
  lines.length = 0
})

t.test('afterCommit hooks run in order once COMMIT is answered, before the scope resolves', async t => {
  await db.scope(async (session) => {
    session.afterCommit(note('a'))
    session.afterRollback(note('never'))
    await session.query('SELECT 1')
    session.afterCommit(() => { ran.push(session.state) })
    session.afterCommit(note('b'))
    t.same(ran, [])
  })
  t.same(ran, ['a', 'closed', 'b'])
})

t.test('afterRollback hooks run in order when the function rejects', async t => {
  await t.rejects(db.scope(async (session) => {
    session.afterRollback(note('a'))
    session.afterCommit(note('never'))
    await session.query('SELECT 1')
    session.afterRollback(note('b'))
    throw new Error('no')
  }), { message: 'no' })
  t.same(ran, ['a', 'b'])
})

t.test('COMMIT that is refused is a rollback', async t => {
  await t.rejects(db.scope(async (session) => {
    session.afterCommit(note('never'))
    session.afterRollback(note('a'))
    await session.query('INSERT INTO parts VALUES (1, 2)')
  }), { code: 'FST_PG_SCOPE_CONSTRAINT_VIOLATION' })
  t.same(ran, ['a'])
})

t.test('setRollbackOnly() is a rollback', async t => {
  await db.scope(async (session) => {
    session.afterCommit(note('never'))
    session.afterRollback(note('a'))
    await session.query('SELECT 1')
    session.setRollbackOnly()
  })
  t.same(ran, ['a'])
})

t.test('hooks registered in a savepoint that is rolled back go with it', async t => {
  await db.scope(async (session) => {
    session.afterCommit(note('outer commit'))
    session.afterRollback(note('never'))
    await session.transaction(async () => {
      session.afterCommit(note('never'))
      session.afterRollback(note('inner rollback'))
      await session.query('SELECT 1')
      throw new Error('no')
    }).catch(() => {})
    t.same(ran, ['inner rollback'], 'at once')
    await session.transaction(() => {
      session.afterCommit(note('inner commit'))
      session.afterRollback(note('never'))
    })
    session.afterCommit(note('last'))
  })
  t.same(ran, ['inner rollback', 'outer commit', 'inner commit', 'last'])
})

t.test('hooks of a kept savepoint follow the transaction around it', async t => {
  await t.rejects(db.scope(async (session) => {
    await session.transaction(async () => {
      session.afterCommit(note('never'))
      session.afterRollback(note('inner'))
      await session.query('SELECT 1')
    })
    t.same(ran, [])
    throw new Error('no')
  }))
  t.same(ran, ['inner'])
})

t.test('commit() and rollback() by hand run those of their own transaction', async t => {
  await db.scope(async (session) => {
    session.afterCommit(note('first'))
    session.afterRollback(note('never'))
    await session.query('SELECT 1')
    await session.commit()
    t.same(ran, ['first'])
    session.afterRollback(note('second'))
    session.afterCommit(note('never'))
    await session.query('SELECT 1')
    await session.rollback()
    t.same(ran, ['first', 'second'])
    session.afterCommit(note('third'))
    await session.query('SELECT 1')
  })
  t.same(ran, ['first', 'second', 'third'])
})

t.test('a failing hook is logged and changes nothing', async t => {
  t.equal(await db.scope(async (session) => {
    session.afterCommit(() => { throw new Error('thrown') })
    session.afterCommit(async () => { throw new Error('rejected') })
    session.afterCommit(note('c'))
    await session.query('SELECT 1')
    return 'fine'
  }), 'fine')
  await new Promise((resolve) => setImmediate(resolve))
  t.same(ran, ['c'])
  t.match(lines, [{ level: 50, err: { message: 'thrown' } }, { level: 50, err: { message: 'rejected' } }])
  t.match(lines[0]!.msg, /hook/)
})

t.test('a session without a transaction runs its hooks too', async t => {
  await db.scope((session) => { session.afterCommit(note('a')) })
  t.same(ran, ['a'])
})

t.test('a route\'s afterCommit sees its work saved', async t => {
  t.equal((await app.inject({ method: 'POST', url: '/ok' })).statusCode, 200)
  while (ran.length === 0) await new Promise((resolve) => setTimeout(resolve, 5))
  t.same(ran, [1])
})

t.test('close() waits for hooks that run', async t => {
  const app = Fastify()
  await app.register(pgScope, { connectionString: postgres.connectionString })
  await app.db.scope((session) => {
    session.afterCommit(async () => {
      await new Promise((resolve) => setTimeout(resolve, 50))
      ran.push('done')
    })
  })
  await app.close()
  t.same(ran, ['done'])
})
