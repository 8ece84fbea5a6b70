import t from 'tap'
import { startApp } from './app.ts'
import { eachPlace, type Place } from './places.ts'
import { rules } from '../../../lib/pgbouncer/rules.ts'
import { startPgProxy } from '../../../harness/pg-proxy.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import type { PgScopeOptions } from '../../../lib/index.ts'

const postgres = await startTestPostgres(t)
await postgres.query('CREATE TABLE things (id int); CREATE TABLE temp (listen int, set int)')

/** What each rule is about, in an order in which all of it works on one connection. */
const belongings: [what: string, text: string][] = [
  ['LISTEN', 'LISTEN news'],
  ['LISTEN', 'UNLISTEN *'],
  ['SET without LOCAL', "SET app.a = '1'"],
  ['SET without LOCAL', 'SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE'],
  ['SET without LOCAL', 'set role none'],
  ['RESET', 'RESET app.a'],
  ['set_config with is_local false', "SELECT set_config('app.a', coalesce(NULL, '2'), false)"],
  ['a session advisory lock', 'SELECT pg_advisory_lock(1)'],
  ['a session advisory lock', 'SELECT pg_advisory_unlock(1)'],
  ['a temporary table that outlives the transaction', 'CREATE TEMP TABLE a1 (b int)'],
  ['a temporary table that outlives the transaction', 'CREATE TABLE pg_temp.a2 (b int)'],
  ['SELECT INTO a temporary table', 'SELECT 1 AS b INTO TEMP a3'],
  ['a temporary object that outlives the transaction', 'CREATE TEMP VIEW a4 AS SELECT 1'],
  ['a temporary object that outlives the transaction', 'CREATE TEMPORARY SEQUENCE a5'],
  ['a cursor WITH HOLD', 'DECLARE a6 CURSOR WITH HOLD FOR SELECT 1'],
  ['PREPARE', 'PREPARE a7 AS SELECT 1'],
  ['DEALLOCATE', '/* a comment */ DEALLOCATE a7'],
  ['LOAD', "LOAD 'plpgsql'"],
  ['LISTEN', 'SELECT 1; LISTEN news'],
  ['DISCARD', 'DISCARD PLANS'],
  ['DISCARD', 'DISCARD ALL']
]
/** DISCARD ALL cannot run inside of a transaction. */
const inTransaction = belongings.filter(([, text]) => text !== 'DISCARD ALL')

const fine = [
  "SET LOCAL app.a = '1'", 'SET CONSTRAINTS ALL DEFERRED', "SELECT set_config('app.a', 'false', true)", 'SELECT pg_advisory_xact_lock(1)', 'SELECT pg_try_advisory_xact_lock_shared(2)',
  'CREATE TEMP TABLE b1 (b int) ON COMMIT DROP', 'CREATE TEMPORARY TABLE b2 ON COMMIT DROP AS SELECT 1', 'CREATE TABLE pg_temp.b3 (b int) ON COMMIT DROP',
  'NOTIFY news', "SELECT pg_notify('news', 'LISTEN')", 'DECLARE b4 CURSOR FOR SELECT 1', 'CLOSE b4',
  'INSERT INTO temp SELECT 1', 'INSERT INTO temp (set) VALUES (1)', 'UPDATE temp SET set = 2, listen = 3', 'SELECT listen AS "LISTEN", set FROM temp', 'DELETE FROM temp',
  "SELECT 'SET a = 1; LISTEN b', $$; DISCARD ALL $$, E'\\'; LISTEN c'", '/* ; LISTEN a */ SELECT 1 -- ; LISTEN b', "SELECT 'pg_advisory_lock(1)'", "SELECT 1; SET LOCAL app.a = '2'; SELECT 2",
  "DO $$ BEGIN PERFORM pg_advisory_xact_lock(1); RAISE DEBUG 'pg_advisory_lock(1)'; END $$"
]

/** Before 1.26 nothing tells session mode, so that it has to be said. */
const options = ({ mode }: Place): PgScopeOptions => mode === 'session' ? { pooler: 'session' } : {}
const things = async (): Promise<number[]> => (await postgres.query('SELECT id FROM things ORDER BY id')).rows.map(({ id }) => id)

t.test('in transaction mode', (t) => eachPlace(t, postgres, ['transaction'], async (t, place) => {
  const proxy = await startPgProxy(t, place)
  const { app, db, listen } = await startApp(t, {
    connectionString: proxy.connectionString(place.connectionString), pool: { max: 2 }
  })
  const refusal = (what: string) => {
    const { reason, instead } = rules.find((rule) => rule.what === what)!
    return { code: 'FST_PG_SCOPE_POOLER_UNSUPPORTED', statusCode: 500, details: `${what} cannot work behind a pooler in transaction mode: ${reason}. ${instead}. On a direct connection it is allowed.` }
  }
  await db.query('SELECT 1')

  await t.test('what belongs to a server connection is refused, by name, with the reason and the way to do it, and never sent', async (t) => {
    t.same(new Set(belongings.map(([what]) => what)), new Set(rules.map(({ what }) => what)), 'every rule')
    proxy.reset()
    const { acquired } = db.stats().counters
    for (const [what, text] of belongings) {
      const refused = refusal(what)
      await t.rejects(db.query(text), refused, text)
      await t.rejects(db.query({ name: 'one', text }), refused)
      await t.rejects(db.scope((session) => session.query(text)), refused)
      await t.rejects(db.scope((session) => session.transaction((inner) => inner.query(text))), refused)
      await t.rejects(db.scope((session) => session.query(text), { mode: 'autocommit' }), refused)
      await t.rejects(db.scope((session) => session.stream(text).toArray()), refused)
    }
    t.same(proxy.statements, [], 'nothing was sent')
    t.equal(db.stats().counters.acquired, acquired, 'nor a connection asked for')
  })

  await t.test('whatever follows a refusal works, in its own session too', async (t) => {
    proxy.reset()
    for (const [id, [what, text]] of belongings.entries()) {
      await db.scope(async (session) => {
        await t.rejects(session.query(text), refusal(what))
        await session.rollback()
        await session.query('INSERT INTO things VALUES ($1)', [id])
        await t.rejects(session.transaction((inner) => inner.query(text)), refusal(what))
      })
      t.same(await things(), [id])
      await db.query('TRUNCATE things')
    }
    t.notOk(proxy.statements.some((text) => belongings.some(([, belonging]) => text.includes(belonging))), 'none was sent')
  })

  await t.test('a request that does not catch a refusal answers 500 and is rolled back; transaction(fn) contains one', async (t) => {
    app.get('/caught', async (request) => {
      await request.db.query('INSERT INTO things VALUES (1)')
      const { code } = await request.db.transaction((db) => db.query('LISTEN news')).catch((error) => error)
      return { code }
    })
    app.get('/thrown', async (request) => {
      await request.db.query('INSERT INTO things VALUES (2)')
      await request.db.query('LISTEN news')
    })
    const port = await listen()
    const caught = await fetch(`http://127.0.0.1:${port}/caught`)
    t.same([caught.status, await caught.json()], [200, { code: 'FST_PG_SCOPE_POOLER_UNSUPPORTED' }])
    const thrown = await fetch(`http://127.0.0.1:${port}/thrown`)
    t.match([thrown.status, await thrown.json()], [500, { code: 'FST_PG_SCOPE_POOLER_UNSUPPORTED' }])
    t.same(await things(), [1])
    await db.query('TRUNCATE things')
  })

  await t.test('what looks alike and works is let through, on whatever server connection', async (t) => {
    for (let round = 0; round < 2; round++) {
      await Promise.all(
        [1, 2].map(() => db.scope(async (session) => { for (const text of fine) await session.query(text) }))
      )
      // There is nothing to close in a transaction of its own.
      for (const text of fine) if (!text.startsWith('CLOSE')) await db.scope((session) => session.query(text))
    }
    t.pass()
  })

  await t.test('a raw client is not looked at', async (t) => {
    await db.lease((client) => client.query('LISTEN news; UNLISTEN *'))
    t.pass()
  })
}))

t.test('directly, and in session mode, all of it is accepted', (t) => eachPlace(t, postgres, ['direct', 'session'], async (t, place) => {
  for (const strategy of ['queue', 'null'] as const) {
    const { db } = await startApp(t, {
      connectionString: place.connectionString, pool: { max: 1, strategy }, ...options(place)
    })
    // What one statement leaves on its connection is gone before the next, so there is no a7 to deallocate.
    for (const [, text] of belongings) if (!text.endsWith('a7')) await t.resolves(db.query(text), text)
    await t.rejects(db.query('DEALLOCATE a7'), { code: '26000' })
    await db.scope(async (session) => {
      for (const [, text] of inTransaction) await t.resolves(session.query(text), text)
    })
    await db.query('SELECT 1')
  }
}))

t.test('said to be in transaction mode by hand, a direct connection refuses them as well', async (t) => {
  const { db } = await startApp(t, { connectionString: postgres.connectionString, pooler: 'transaction' })
  for (const [, text] of belongings) await t.rejects(db.query(text), { code: 'FST_PG_SCOPE_POOLER_UNSUPPORTED' })
})
