// `signal` in the config of one statement.
import { getEventListeners } from 'node:events'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { startPgProxy } from '../../../harness/pg-proxy.ts'
import pgScope, { type PgScopeOptions, type Queryable, type Session, type StatementConfig } from '../../../harness/plugin.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { byStrategy } from '../../../harness/variant.ts'
import { waitFor } from '../../../harness/wait-for.ts'

const postgres = await startTestPostgres(t)
await postgres.query('CREATE TABLE things (name text)')

const reason = new Error('enough')
const canceled = { code: 'FST_PG_SCOPE_CANCELED', statusCode: 503, cause: reason }
const aborted = { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED', cause: { code: 'FST_PG_SCOPE_CANCELED' } }
// Where a connection has to be opened first, a statement is never sent over a dead network.
const unknown = { code: byStrategy({ queue: 'FST_PG_SCOPE_COMMIT_UNKNOWN', null: 'FST_PG_SCOPE_CANCELED' }) }
const long = 'SELECT pg_sleep(60)'
const many = 'SELECT i FROM generate_series(1, 100000) AS i'
const transaction = { mode: 'transaction' } as const
const autocommit = { mode: 'autocommit' } as const

t.beforeEach(() => postgres.query('TRUNCATE things'))

async function setUp (t: Test, options: PgScopeOptions = {}) {
  const proxy = await startPgProxy(t, postgres)
  const app = Fastify() as unknown as FastifyInstance
  t.teardown(() => app.close())
  await app.register(pgScope, {
    connectionString: proxy.connectionString(postgres.connectionString), closeTimeout: 500, ...options
  })
  const { db } = app
  await db.query('SELECT 1')
  proxy.reset()
  const controller = new AbortController()
  const { signal } = controller
  return {
    app,
    proxy,
    db,
    signal,
    abort: () => controller.abort(reason),
    sent: (text: string) => proxy.executed.includes(text),
    running: (text = long) => waitFor(() => proxy.executed.includes(text), { interval: 1 }),
    listeners: () => getEventListeners(signal, 'abort').length
  }
}

const names = async (): Promise<string[]> => (await postgres.query('SELECT name FROM things ORDER BY name')).rows.map(({ name }) => name)
const insert = (db: Queryable, name: string, config: Partial<StatementConfig> = {}) => db.query({ text: 'INSERT INTO things VALUES ($1)', values: [name], ...config })
const rejects = (
  t: Test, call: Promise<unknown>, error: { code: string }
): Promise<unknown> => t.rejects(call as Promise<void>, error)
const nothingRuns = () => waitFor(async () => !(await postgres.activity()).some(({ state }) => state === 'active'))

t.test('what is no AbortSignal is refused, by its type', async t => {
  const { db } = await setUp(t)
  for (const [signal, kind] of [[null, 'null'], [1, 'a number'], [{ aborted: false }, 'an object'], [new AbortController(), 'an AbortController'], ['secret', 'a string']] as const) {
    const config = { text: 'SELECT 1', signal } as unknown as StatementConfig
    const refused = { code: 'FST_PG_SCOPE_QUERY_INVALID', details: new RegExp(`\`signal\` must be an AbortSignal, got ${kind}\\b`) }
    await t.rejects(db.query(config), refused)
    for (const options of [transaction, autocommit]) {
      await t.rejects(db.scope((session) => session.query(config), options), refused)
      await t.rejects(
        db.scope((session) => session.stream(config as StatementConfig & { rowMode?: undefined }).toArray(), options),
        refused
      )
    }
  }
  t.equal((await db.query({ text: 'SELECT 1', signal: undefined })).rowCount, 1)
})

t.test('a signal that was aborted before: the statement is not sent, and no success is answered', async t => {
  const { app, db, sent } = await setUp(t)
  const signal = AbortSignal.abort(reason)
  await t.rejects(insert(db, 'a', { signal }), canceled)
  await t.rejects(db.scope((session) => insert(session, 'a', { signal }), autocommit), canceled)
  await db.scope(async (session) => {
    await t.rejects(session.query({ text: long, signal }), canceled)
    t.equal(session.state, 'failed')
    await t.rejects(session.query('SELECT 2'), aborted)
    await session.rollback()
    await insert(session, 'b')
  })
  app.get('/', async ({ db }) => {
    await insert(db, 'c')
    await db.query({ text: long, signal }).catch(() => {})
    return { ok: true }
  })
  t.match((await app.inject('/')).json(), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED' })
  t.same(await names(), ['b'])
  t.notOk(sent(long))
})

t.test('a statement that runs is cancelled on the server', async t => {
  const { db, signal, running, abort, listeners } = await setUp(t)
  const work: Promise<unknown>[] = [
    db.query({ text: long, signal }),
    db.scope((session) => session.query({ text: long, signal }), autocommit),
    db.scope((session) => session.query({ text: `${long}; ${long}`, signal }), autocommit),
    db.scope((session) => session.query({ text: `${long}; ${long}`, signal })),
    db.scope((session) => session.transaction((inner) => inner.query({ text: long, signal })), autocommit),
    db.scope((session) => session.query({ text: long, signal })),
    db.scope(async (session) => {
      await session.query('SELECT 1')
      await session.transaction((inner) => inner.query({ text: long, signal, values: [] }))
    })
  ]
  const outcomes = Promise.all(work.map((work) => rejects(t, work, canceled)))
  await running()
  await waitFor(async () => (await postgres.activity()).filter(({ state }) => state === 'active').length === work.length)
  t.equal(listeners(), 1, 'one listener for all')
  abort()
  await outcomes
  await nothingRuns()
  await waitFor(() => db.stats().inUse === 0)
  t.ok(db.stats().counters.canceled >= work.length)
})

t.test('a session that met a cancelled statement has failed, until rollback() or the end of its transaction(fn)', async t => {
  const { app, db, signal, running, abort } = await setUp(t)
  running().then(abort)
  await db.scope(async (session) => {
    await insert(session, 'a')
    await t.rejects(session.transaction((inner) => inner.query({ text: long, signal })), canceled)
    await insert(session, 'b')
  })
  t.same(await names(), ['a', 'b'])
  const second = new AbortController()
  app.get('/', async ({ db }) => {
    await insert(db, 'c')
    const [statement, behind] = await Promise.allSettled([db.query({ text: 'SELECT pg_sleep(61)', signal: second.signal }), db.query('SELECT 2')])
    t.match(statement, { status: 'rejected', reason: { code: 'FST_PG_SCOPE_CANCELED', cause: reason } })
    t.match(behind, { status: 'rejected', reason: aborted })
    t.equal(db.state, 'failed')
    return { ok: true }
  })
  running('SELECT pg_sleep(61)').then(() => second.abort(reason))
  t.match((await app.inject('/')).json(), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED' })
  t.same(await names(), ['a', 'b'])
})

t.test('aborted while it waits for a connection, it is not sent, and waits no longer', async t => {
  const { db, signal, sent, abort, listeners } = await setUp(t, { pool: { max: 1 } })
  await db.scope(async (holder) => {
    await holder.query('SELECT 1')
    const sessions = [db.session(), db.session(), db.session()] as const
    const calls = [
      db.query({ text: long, signal }),
      sessions[0].query({ text: long, signal }),
      sessions[1].transaction((inner) => inner.query({ text: long, signal })),
      db.scope((session) => session.query({ text: long, signal }), autocommit)
    ].map((call) => rejects(t, call, canceled))
    const stream = t.rejects(sessions[2].stream({ text: many, signal }).toArray(), canceled)
    const behind = t.rejects(sessions[0].query('SELECT 2'), aborted)
    await waitFor(() => db.stats().waiting === 5)
    t.equal(listeners(), 1)
    abort()
    await Promise.all([...calls, stream, behind])
    t.equal(db.stats().waiting, 0)
    t.same(sessions.map(({ state }) => state), ['failed', 'idle', 'failed'])
    await Promise.all(sessions.map((session) => session.rollback()))
    await Promise.all(sessions.map((session) => session.close()))
  })
  t.notOk(sent(long))
})

t.test('aborted behind others that run: it is rejected at once and not sent, and they go on', async t => {
  const { db, signal, sent, running, abort } = await setUp(t)
  for (const begun of [true, false]) {
    const own = begun ? { signal, abort } : fresh()
    const first = `SELECT pg_sleep(0.5), ${begun} AS begun`
    await db.scope(async (session) => {
      if (begun) await session.query('SELECT 1')
      let answered = false
      const front = session.query(first).finally(() => { answered = true })
      const statement = session.query({ text: long, signal: own.signal })
      const behind = session.query('SELECT 2')
      const refused = Promise.all([t.rejects(statement, canceled), t.rejects(behind, aborted)])
      await running(first)
      own.abort()
      await t.rejects(statement, canceled)
      t.equal(answered, false, 'it does not wait for those in front')
      t.match((await front).rows, [{ begun }])
      await refused
      t.equal(session.state, 'failed')
      await session.rollback()
    })
  }
  t.notOk(sent(long))
  t.equal(db.stats().counters.canceled, 0)
})

t.test('aborted while a transaction(fn) keeps it waiting: it is rejected at once, and the session fails in its turn', async t => {
  const { db, signal, sent, abort } = await setUp(t)
  await t.rejects(db.scope(async (session) => {
    let go!: () => void
    const inner = session.transaction(async (inner) => {
      await insert(inner, 'a')
      await new Promise<void>((resolve) => { go = resolve })
      await insert(inner, 'b')
    })
    const statement = session.query({ text: long, signal })
    const stream = session.stream({ text: many, signal })
    await waitFor(() => go !== undefined)
    abort()
    await t.rejects(statement, canceled)
    await t.rejects(stream.toArray(), canceled)
    go()
    await inner
  }), aborted)
  t.notOk(sent(long))
  t.same(await names(), [])
})

function fresh () {
  const controller = new AbortController()
  return { signal: controller.signal, abort: () => controller.abort(reason) }
}

t.test('a signal that is aborted after the answer does nothing, and keeps nothing', async t => {
  const { db, signal, abort, listeners } = await setUp(t)
  await db.scope(async (session) => {
    for (let i = 0; i < 20; i++) await insert(session, 'a', { signal })
    await Promise.all(Array.from({ length: 20 }, () => insert(session, 'a', { signal })))
    t.equal((await session.stream({ text: 'SELECT 1 AS one', signal }).toArray()).length, 1)
    await t.rejects(session.transaction((inner) => inner.query({ text: 'SELECT 1/0', signal })), { code: '22012' })
    abort()
    await insert(session, 'b')
  })
  t.equal(listeners(), 0)
  t.equal((await names()).length, 41)
  t.equal(db.stats().counters.canceled, 0)
})

t.test('a cancel that is late hits nothing that was called behind it', async t => {
  const { db, proxy } = await setUp(t)
  proxy.delayCancels(300)
  for (const options of [transaction, autocommit]) {
    await db.scope(async (session) => {
      await session.query('SELECT 1')
      const { signal, abort } = fresh()
      const text = `SELECT pg_sleep(0.15), '${options.mode}' AS mode`
      const statement = session.query({ text, signal })
      const behind = session.query('SELECT pg_sleep(0.7), 1 AS one')
      await waitFor(() => proxy.executed.includes(text), { interval: 1 })
      abort()
      t.match((await statement).rows[0], options, 'it had completed')
      t.match((await behind).rows, [{ one: 1 }])
    }, options)
  }
})

t.test('a cancel does not hit the COMMIT of the session that had the connection before', async t => {
  const { db, running } = await setUp(t, { pool: { max: 1 } })
  await postgres.query(`CREATE TABLE slow (n int); CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.5); RETURN NULL; END';
    CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON slow DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow()`)
  const { signal, abort } = fresh()
  const saved = db.scope((session) => session.query('INSERT INTO slow VALUES (1)'))
  await running('INSERT INTO slow VALUES (1)')
  const next = t.rejects(db.scope((session) => session.query({ text: long, signal })), canceled)
  await running('COMMIT')
  abort()
  await Promise.all([saved, next])
  t.equal((await postgres.query('SELECT FROM slow')).rowCount, 1)
})

t.test('a dead network keeps no one waiting', async t => {
  const { db, proxy } = await setUp(t)
  const cases: [(session: Session, signal: AbortSignal) => Promise<unknown>, object, { code: string }][] = [
    [(session, signal) => session.query({ text: 'SELECT 1', signal }), transaction, { code: 'FST_PG_SCOPE_CANCELED' }],
    [(session, signal) => session.query({ text: 'SELECT 1', signal }), autocommit, unknown],
    [(session, signal) => session.stream({ text: many, signal }).toArray(), transaction, { code: 'FST_PG_SCOPE_CANCELED' }],
    [(session, signal) => session.stream({ text: many, signal }).toArray(), autocommit, { code: 'FST_PG_SCOPE_CANCELED' }]
  ]
  for (const [work, options, error] of cases) {
    await db.query('SELECT 1')
    proxy.pause({ drop: true })
    await t.rejects(db.scope((session) => work(session, AbortSignal.timeout(50)), options), error)
    await waitFor(() => db.stats().inUse === 0)
    proxy.resume()
  }
  await db.query('SELECT 1')
  await t.rejects(db.scope(async (session) => {
    await session.query('SELECT 1')
    proxy.pause({ drop: true })
    await session.query({ text: 'SELECT 1', signal: AbortSignal.timeout(50) })
  }), { code: 'FST_PG_SCOPE_CANCELED' })
  proxy.resume()
  t.equal((await db.query('SELECT 1')).rowCount, 1)
})

t.test('a stream ends with its signal, and the session has failed', async t => {
  const { db, proxy } = await setUp(t)
  const endless = 'SELECT i, pg_sleep(0.001) FROM generate_series(1, 100000) AS i'
  for (const options of [transaction, autocommit]) {
    for (const text of [many, endless, long]) {
      const { signal, abort } = fresh()
      await db.scope(async (session) => {
        proxy.reset()
        const stream = session.stream<{ i?: number }>({ text, signal })
        await t.rejects(async () => {
          if (text === long) waitFor(() => proxy.executed.some((text) => text.startsWith('FETCH'))).then(abort)
          for await (const { i } of stream) if (i === 3) abort()
        }, canceled, text)
        t.ok(stream.destroyed)
        if (options === autocommit) return t.match((await session.query('SELECT 1 AS one')).rows, [{ one: 1 }])
        await waitFor(() => session.state === 'failed')
        await t.rejects(session.query('SELECT 2'), aborted)
        await session.rollback()
        await insert(session, 'a')
      }, options)
      t.equal(getEventListeners(signal, 'abort').length, 0)
      await waitFor(() => db.stats().inUse === 0)
    }
  }
  await nothingRuns()
})

t.test('a stream that is ended by its signal in transaction(fn) is undone with it', async t => {
  const { db } = await setUp(t)
  const { signal, abort } = fresh()
  await db.scope(async (session) => {
    await insert(session, 'a')
    await t.rejects(session.transaction(async (inner) => {
      await insert(inner, 'b')
      for await (const { i } of inner.stream({ text: many, signal })) if (i === 3) abort()
    }), canceled)
    await insert(session, 'c')
  })
  t.same(await names(), ['a', 'c'])
})

t.test('statements with a signal run in order, whatever is around them', async t => {
  const { db, signal } = await setUp(t)
  await db.scope(async (session) => {
    const answers = await Promise.all(Array.from({ length: 30 }, (_, i) => i % 3 === 0
      ? session.transaction((inner) => inner.query({ text: 'SELECT $1::int AS i', values: [i], signal }))
      : session.query({ text: 'SELECT $1::int AS i', values: [i], ...(i % 3 === 1 && { signal }) })))
    t.same(answers.map(({ rows }) => rows[0].i), Array.from({ length: 30 }, (_, i) => i))
    const rows = await Promise.all([1, 2].map(() => session.stream({ text: 'SELECT generate_series(1, 1200)', signal }).toArray()))
    t.same(rows.map(({ length }) => length), [1200, 1200])
  })
  await db.scope(async (session) => {
    const stream = session.stream<{ i: number }>({ text: many, signal }, { batchSize: 2 })
    let read = 0
    for await (const { i } of stream) {
      t.equal(i, ++read)
      // A FETCH may be called while ROLLBACK TO is under way.
      await session.transaction(async (inner) => {
        if (i % 2 === 0) await insert(inner, 'b')
        throw reason
      }).catch(() => {})
      if (i === 40) break
    }
    await insert(session, 'a')
  })
  t.same(await names(), ['a'])
})
