// What is refused before anything is sent, or is of no use although the server answered, is a failure like that of
// a statement.
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import pgScope from '../../../harness/plugin.ts'
import Fastify from 'fastify'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { waitFor } from '../../../harness/wait-for.ts'
import type { PgScopeOptions } from '../../../types/options.ts'
import type { Session } from '../../../types/session.ts'

const postgres = await startTestPostgres(t)
await postgres.query('CREATE TABLE note (text text)')
await postgres.query('CREATE TABLE once (text text UNIQUE DEFERRABLE INITIALLY DEFERRED)')
const unhandled: unknown[] = []
process.on('unhandledRejection', (error) => unhandled.push(error))

async function setUp (t: Test, options: PgScopeOptions = {}) {
  await postgres.query('TRUNCATE note, once')
  unhandled.splice(0)
  const lines: { level: number, msg: string, err?: { code?: string } }[] = []
  const app = Fastify({ logger: { level: 'warn', stream: { write: (line: string) => { lines.push(JSON.parse(line)) } } } })
  t.teardown(() => app.close())
  await app.register(pgScope, { connectionString: postgres.connectionString, ...options })
  let current: (db: Session) => unknown
  app.post('/', async (request, reply) => {
    await current(request.db)
    return reply.code(201).send({ ok: true })
  })
  /** Answers 201, whatever becomes of what the body asked of its session. */
  const post = (body: (db: Session) => unknown) => {
    current = body
    return app.inject({ method: 'POST', url: '/' })
  }
  return { app, db: app.db, lines, post }
}

const saved = async (): Promise<string[]> => (await postgres.query('SELECT text FROM note ORDER BY 1')).rows.map(({ text }) => text)
const insert = (db: Session, text = 'a') => db.query('INSERT INTO note VALUES ($1)', [text])

const circular: Record<string, unknown> = {}
circular.self = circular
const refused: [string, (db: Session) => unknown][] = [
  ['a value that cannot be converted', (db) => db.query('INSERT INTO note VALUES ($1)', [{ total: 1n }])],
  ['a circular value', (db) => db.query('INSERT INTO note VALUES ($1)', [circular])],
  ['70,000 values', (db) => db.query('SELECT 1', new Array(70000).fill(1))],
  ['values that are no array', (db) => db.query('SELECT $1', 1 as never)],
  ['a text that is no string', (db) => db.query(undefined as never)],
  ["query('rollback')", (db) => db.query('rollback')],
  ['transaction(undefined)', (db) => db.transaction(undefined as never)],
  ['stream() of wrong values', (db) => { db.stream('SELECT 1', 1 as never) }],
  ['stream() with a wrong batch size', (db) => { db.stream('SELECT 1', [], { batchSize: 0 }) }],
  ["stream('COMMIT')", (db) => { db.stream('COMMIT') }],
  ['afterCommit(undefined)', (db) => { try { db.afterCommit(undefined as never) } catch {} }],
  ['a result that a type parser rejects', (db) => db.query({ text: "SELECT 'x'::text AS x", types: { getTypeParser: () => () => { throw new Error('no') } } as never })],
  ['rows of a stream that a type parser rejects', (db) => { db.stream('SELECT 1/0') }],
  ['Promise.allSettled', (db) => Promise.allSettled([db.query('SELECT $1', 1 as never), insert(db, 'settled')])],
  ['an error that is caught', (db) => db.query(42 as never).catch(() => {})]
]

t.test('a call that was refused before it was sent is no success, in whatever state the session is', async (t) => {
  const { post, db } = await setUp(t)
  const asks: Record<string, (call: (db: Session) => unknown) => (db: Session) => unknown> = {
    'behind a statement that is not awaited': (call) => (db) => {
      insert(db)
      call(db)
    },
    'behind one that was awaited': (call) => async (db) => {
      await insert(db)
      call(db)
    },
    'as the first': (call) => (db) => { call(db) },
    'in front of others': (call) => (db) => {
      call(db)
      insert(db)
    },
    'behind a commit() that is not awaited': (call) => (db) => {
      insert(db, 'committed')
      db.commit()
      insert(db)
      call(db)
    }
  }
  for (const [what, call] of refused) {
    for (const [where, ask] of Object.entries(asks)) {
      const response = await post(ask(call))
      t.equal(response.statusCode, 500, `${what}, ${where}`)
      t.match(response.json(), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED' })
    }
  }
  t.same([...new Set(await saved())], ['committed'], 'nothing is saved but what commit() had saved before')
  t.match(db.stats(), { inUse: 0, waiting: 0 })
  t.same(unhandled, [], 'and none of them is an unhandled rejection')
})

t.test('a scope fails by it too, and so does commit() of a session that is ended by hand', async (t) => {
  const { db } = await setUp(t)
  for (const [what, call] of refused) {
    await t.rejects(db.scope(async (session) => {
      await insert(session)
      call(session)
    }), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED' }, what)
    await using session = db.session()
    insert(session)
    call(session)
    await t.rejects(session.commit(), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED' }, what)
    t.equal(session.state, 'failed')
    await session.rollback()
    await insert(session, 'later')
    await session.rollback()
  }
  t.same(await saved(), [])
  t.same(unhandled, [])
})

t.test('statements called before it run, those behind it are refused with it as the cause', async (t) => {
  const { db } = await setUp(t)
  const session = db.session()
  const [before, wrong, behind] = await Promise.allSettled([session.query('SELECT 1 AS one'), session.query('SELECT 1', 1 as never), session.query('SELECT 2')])
  t.match(before, { status: 'fulfilled', value: { rows: [{ one: 1 }] } })
  t.match(wrong, { status: 'rejected', reason: { code: 'FST_PG_SCOPE_QUERY_INVALID' } })
  t.match(behind, { status: 'rejected', reason: { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED', cause: { code: 'FST_PG_SCOPE_QUERY_INVALID' } } })
  await session.close()
})

t.test('what failed before it stays the first failure', async (t) => {
  const { db } = await setUp(t)
  const session = db.session()
  await Promise.allSettled([session.query('SELECT 1/0'), session.query(1 as never)])
  await t.rejects(session.commit(), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED', cause: { code: '22012' } })
  await session.close()
})

t.test('an idle session fails by it without a connection; a closed one only rejects', async (t) => {
  const { db } = await setUp(t)
  const session = db.session()
  await t.rejects(session.query(1 as never), { code: 'FST_PG_SCOPE_QUERY_INVALID' })
  t.equal(session.state, 'failed')
  t.equal(db.stats().inUse, 0)
  await t.rejects(session.query('SELECT 1'), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED' })
  await session.rollback()
  t.equal(session.state, 'idle')
  await session.query('SELECT 1')
  await session.close()
  await t.rejects(session.query(1 as never), { code: 'FST_PG_SCOPE_SESSION_CLOSED' })
  t.equal(session.state, 'closed')
})

t.test('inside of transaction(fn) it fails that one, and nothing around it', async (t) => {
  const { db } = await setUp(t)
  for (const [what, call] of refused) {
    for (const first of [true, false]) {
      await db.scope(async (session) => {
        if (!first) await insert(session, 'outer')
        await t.rejects(session.transaction(async (inner) => {
          insert(inner, 'inner')
          call(inner)
        }), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED' }, what)
        await t.rejects(session.transaction((inner) => { call(inner) }), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED' }, what)
        await insert(session, 'outer')
      })
    }
  }
  t.same([...new Set(await saved())], ['outer'])
  t.same(unhandled, [])
})

t.test('commit() and rollback() inside of transaction(fn) were not done, so fn has failed', async (t) => {
  const { db } = await setUp(t)
  for (const name of ['commit', 'rollback'] as const) {
    await t.rejects(db.scope((session) => session.transaction(async (inner) => {
      insert(inner)
      inner[name]()
    })), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED', cause: { code: 'FST_PG_SCOPE_SESSION_STATE' } })
  }
  t.same(await saved(), [])
  t.same(unhandled, [])
})

t.test('a commit() that fails is no success, unless the handler does its work anew or calls rollback()', async (t) => {
  const { db, post } = await setUp(t)
  await postgres.query("INSERT INTO once VALUES ('taken')")
  const fail = (db: Session) => {
    db.query("INSERT INTO once VALUES ('taken')")
    return db.commit()
  }
  const failing: [string, (db: Session) => unknown][] = [
    ['not awaited', (db) => { fail(db) }],
    ['caught', (db) => fail(db).catch(() => {})],
    ['settled', (db) => Promise.allSettled([fail(db)])],
    ['not awaited, failed long ago', async (db) => {
      fail(db)
      await sleep(100)
    }],
    ['not awaited, and work behind it', (db) => {
      fail(db)
      insert(db, 'lost')
    }],
    ['not awaited, and work long after it', async (db) => {
      fail(db)
      await sleep(100)
      await insert(db, 'lost')
    }]
  ]
  for (const [what, body] of failing) {
    const response = await post(body)
    t.equal(response.statusCode, 409, what)
    t.match(response.json(), { code: 'FST_PG_SCOPE_CONSTRAINT_VIOLATION' })
    await t.rejects(db.scope(body), { code: 'FST_PG_SCOPE_CONSTRAINT_VIOLATION' }, what)
  }
  t.same(await saved(), [])
  t.equal((await post(async (db) => {
    await fail(db).catch(() => {})
    await insert(db, 'anew')
  })).statusCode, 201)
  t.equal((await post(async (db) => {
    await fail(db).catch(() => {})
    await db.rollback()
  })).statusCode, 201)
  t.same(await saved(), ['anew'])
  t.same(unhandled, [])
  const session = db.session()
  fail(session)
  await waitFor(() => unhandled.length > 0)
  t.match(unhandled, [{ code: 'FST_PG_SCOPE_CONSTRAINT_VIOLATION' }], 'nothing else could tell the caller of session()')
  await session.close()
})

t.test('a read-only answer waits for statements that were not awaited', async (t) => {
  const { post } = await setUp(t, { readOnly: true })
  const response = await post((db) => { db.query('SELECT 1/0') })
  t.equal(response.statusCode, 500)
})

t.test('a serialization failure that was not awaited is retried', async (t) => {
  const { post } = await setUp(t)
  const response = await post((db) => { db.query("DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '40001'; END $$") })
  t.equal(response.statusCode, 503)
  t.equal(response.headers['retry-after'], '1')
})

t.test("in mode 'autocommit' the log tells of what failed behind a success, once, and the answer stays", async (t) => {
  const { lines, post } = await setUp(t, { mode: 'autocommit' })
  const calls: [string, (db: Session) => unknown][] = [
    ...refused.filter(([what]) => !what.startsWith('afterCommit') && !what.startsWith('rows of')),
    ['a statement that the server rejects', (db) => { db.query('SELECT 1/0') }],
    ['several', (db) => { db.query('SELECT 1/0; SELECT 2') }]
  ]
  for (const [what, call] of calls) {
    lines.splice(0)
    const response = await post((db) => {
      call(db)
      insert(db, 'kept')
      call(db)
    })
    t.equal(response.statusCode, 201, what)
    await waitFor(() => lines.length > 0)
    t.match(lines.filter(({ level }) => level === 40), [{ msg: /a statement failed/ }], what)
  }
  t.same([...new Set(await saved())], ['kept', 'settled'])
  t.same(unhandled, [])
  lines.splice(0)
  await post((db) => insert(db))
  t.same(lines, [])
})

t.test("outside of requests, mode 'autocommit' and app.db leave a failure that is not awaited to the process, as pg does", async (t) => {
  const { app, db } = await setUp(t)
  const told = async (count = 0) => {
    if (count > 0) await waitFor(() => unhandled.length >= count)
    else await db.query('SELECT 1')
    await turn()
    return unhandled.splice(0).length
  }
  db.query(1 as never)
  t.equal(await told(1), 1)
  db.query('SELECT 1/0')
  t.equal(await told(1), 1)
  db.query('SELECT 1/0').catch(() => {})
  t.equal(await told(), 0)
  await db.scope((session) => {
    session.query('SELECT 1/0')
    session.query(1 as never)
  }, { mode: 'autocommit' })
  t.equal(await told(2), 2)
  const canceled = new AbortController()
  const session = db.session({ mode: 'autocommit', signal: canceled.signal })
  session.query('SELECT pg_sleep(60)')
  canceled.abort()
  await session.close()
  session.query('SELECT 1')
  t.equal(await told(), 0)
  await app.close()
  db.query('SELECT 1')
  await turn()
  t.same(unhandled, [], 'what was refused because its session, or the app, is closed is nobody\'s fault')
})
