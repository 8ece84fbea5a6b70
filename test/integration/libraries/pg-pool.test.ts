// What a library that was written for pg can rely on, on the pool of an engine.
import { once } from 'node:events'
import { setImmediate as turn } from 'node:timers/promises'
import pg from 'pg'
import Cursor from 'pg-cursor'
import QueryStream from 'pg-query-stream'
import t from 'tap'
import { driverOf, poolOf } from '../../../lib/pg/index.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { withoutSettings } from '../../../harness/variant.ts'
import { waitFor } from '../../../harness/wait-for.ts'
import { startShop } from './shop.ts'

const postgres = await startTestPostgres(t)
const unhandled: unknown[] = []
process.on('unhandledRejection', (error) => unhandled.push(error))

const insert = 'INSERT INTO person (full_name) VALUES ($1)'

async function transaction (pool: pg.Pool, name: string, end = 'COMMIT'): Promise<void> {
  const client = await pool.connect()
  try {
    await client.query('BEGIN')
    await client.query(insert, [name])
    await pool.query(insert, [`${name} too`])
    await client.query(end)
  } finally {
    client.release()
  }
}

t.test('in a request its clients are those of the session: a success commits, a throw rolls back', async (t) => {
  const { app, people, proxy } = await startShop(t, postgres)
  const pool = poolOf(app.db)
  app.post('/:name', async (request) => {
    const { name } = request.params as { name: string }
    await pool.query(insert, [name])
    await Promise.all([1, 2].map((n) => transaction(pool, `${name} ${n}`)))
    await transaction(pool, 'dropped', 'ROLLBACK')
    if (name === 'b') throw new Error('not this one')
    return { status: 'done' }
  })
  proxy.reset()
  t.equal((await app.inject({ method: 'POST', url: '/a' })).statusCode, 200)
  t.equal((await app.inject({ method: 'POST', url: '/b' })).statusCode, 500)
  t.same(await people(), ['Ada', 'Grace', 'a', 'a 1', 'a 1 too', 'a 2', 'a 2 too'])
  t.equal(withoutSettings(proxy.executed).filter((text) => text === 'BEGIN').length, 2)
})

t.test('in a scope and in a transaction(fn) it finds that session', async (t) => {
  const { db, people } = await startShop(t, postgres)
  const pool = poolOf(db)
  await db.scope(async (session) => {
    await t.rejects(session.transaction(async () => {
      await transaction(pool, 'dropped')
      throw new Error('mine')
    }), { message: 'mine' })
    await transaction(pool, 'kept')
  })
  await t.rejects(db.scope(async () => {
    await transaction(pool, 'dropped')
    throw new Error('mine')
  }), { message: 'mine' })
  t.same(await people(), ['Ada', 'Grace', 'kept', 'kept too'])
})

t.test('elsewhere each statement is committed by itself, and BEGIN … COMMIT are a transaction with pg\'s errors', async (t) => {
  const { db, people } = await startShop(t, postgres)
  const pool = poolOf(db)
  await pool.query(insert, ['a'])
  await t.rejects(pool.query(insert, ['a']), { code: '23505' })
  const client = await pool.connect()
  await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ')
  t.match((await client.query("SELECT current_setting('transaction_isolation') AS level")).rows, [{ level: 'repeatable read' }])
  await client.query(insert, ['b'])
  t.same(await people(), ['Ada', 'Grace', 'a'], 'not committed yet')
  await client.query('SAVEPOINT s')
  await t.rejects(client.query(insert, ['a']), { code: '23505' })
  await client.query('ROLLBACK TO s')
  await client.query('COMMIT')
  await client.query('START TRANSACTION')
  await client.query('SET TRANSACTION ISOLATION LEVEL SERIALIZABLE')
  t.match((await client.query("SELECT current_setting('transaction_isolation') AS level")).rows, [{ level: 'serializable' }])
  await client.query("INSERT INTO pet (owner_id, name) VALUES (-1, 'x')")
  await t.rejects(client.query('COMMIT'), { code: '23503', name: 'error' }, 'a deferred constraint')
  await client.query('ROLLBACK')
  await client.query('BEGIN')
  await client.query(insert, ['dropped'])
  client.release()
  await t.rejects(client.query('SELECT 1'), { code: 'FST_PG_SCOPE_SESSION_STATE', details: /released/ })
  client.release()
  await pool.query('BEGIN; INSERT INTO person (full_name) VALUES (\'c\'); COMMIT')
  await t.rejects(pool.query('BEGIN'), { code: 'FST_PG_SCOPE_TRANSACTION_CONTROL', details: /pool\.connect\(\)/ })
  const rows: unknown[] = []
  for await (const row of pool.query(new QueryStream('SELECT generate_series(1, 3) AS n'))) rows.push(row)
  t.same(rows, [{ n: 1 }, { n: 2 }, { n: 3 }])
  t.same(await people(), ['Ada', 'Grace', 'a', 'b', 'c'])
  t.equal(db.stats().inUse, 0)
})

t.test('where the engine is in mode autocommit, BEGIN … COMMIT are a transaction as well', async (t) => {
  const { db, people } = await startShop(t, postgres, { mode: 'autocommit' })
  const pool = poolOf(db)
  const client = await pool.connect()
  await client.query('BEGIN')
  await client.query(insert, ['dropped'])
  await client.query('ROLLBACK')
  await client.query('BEGIN')
  await client.query(insert, ['kept'])
  await client.query('COMMIT')
  client.release()
  t.same(await people(), ['Ada', 'Grace', 'kept'])
})

t.test('it has the shape of a pool: callbacks, events, counts, and an end that leaves the engine alone', async (t) => {
  const { db } = await startShop(t, postgres)
  const pool = poolOf(db)
  t.ok(pool instanceof pg.Pool)
  const released = once(pool, 'release')
  await new Promise<void>((resolve, reject) => {
    pool.connect((error, client, release) => {
      if (error) return reject(error)
      t.ok(client instanceof pg.Client)
      client!.query('SELECT 1 AS a', (error, result) => {
        t.notOk(error)
        t.same(result.rows, [{ a: 1 }])
        release()
        resolve()
      })
    })
  })
  await released
  await new Promise<void>((resolve) => {
    pool.query('SELECT 1/0', (error) => {
      t.match(error, { code: '22012' })
      resolve()
    })
  })
  await new Promise<void>((resolve) => { pool.query('SELECT $1::int AS a', [1], (_error, { rows }) => { t.same(rows, [{ a: 1 }]); resolve() }) })
  t.match(pool, { totalCount: db.stats().open, idleCount: db.stats().idle, waitingCount: 0, ended: false })
  await pool.end()
  t.equal(pool.ended, true)
  await t.rejects(pool.connect(), { code: 'FST_PG_SCOPE_CLOSED' })
  await t.rejects(pool.query('SELECT 1'), { code: 'FST_PG_SCOPE_CLOSED' })
  t.same((await db.query('SELECT 1 AS a')).rows, [{ a: 1 }])
  await using session = db.session()
  for (const engine of [undefined, {}, session]) {
    t.throws(() => poolOf(engine as never), { code: 'FST_PG_SCOPE_QUERY_INVALID', details: /`poolOf\(\)` takes an engine/ })
  }
})

t.test('LISTEN and session advisory locks outside of a session are refused with the alternative', async (t) => {
  const { db } = await startShop(t, postgres)
  const pool = poolOf(db)
  for (const text of ['LISTEN news', 'SELECT pg_try_advisory_lock(1)', 'select pg_advisory_lock_shared($1)']) {
    await t.rejects(pool.query(text, text.includes('$1') ? [1] : []), { code: 'FST_PG_SCOPE_QUERY_INVALID', details: /app\.db\.lease\(fn\)/ })
  }
  t.equal((await pool.query('SELECT pg_try_advisory_xact_lock(1) AS got')).rows[0].got, true)
})

t.test('driverOf() stands for the module of pg: one client serves one request after the other', async (t) => {
  const { app, people } = await startShop(t, postgres)
  const driver = driverOf(app.db)
  t.equal(driver.types, pg.types)
  t.ok(new driver.Pool() instanceof pg.Pool)
  const client = new driver.Client({ connectionString: 'postgres://ignored' })
  await client.connect()
  app.post('/:name', async (request) => {
    const { name } = request.params as { name: string }
    await client.query('BEGIN')
    await client.query(insert, [name])
    await client.query('COMMIT')
    await turn()
    if (name === 'dropped') throw new Error('not this one')
    return {}
  })
  for (const name of ['a', 'dropped', 'b']) await app.inject({ method: 'POST', url: `/${name}` })
  await client.query(insert, ['c'])
  t.same(await people(), ['Ada', 'Grace', 'a', 'b', 'c'])
  await client.end()
})

t.test('nothing was unhandled', async (t) => {
  t.same(unhandled, [])
})

t.test('outside of sessions, a cursor whose COMMIT fails gives its connection back', async (t) => {
  const { db } = await startShop(t, postgres)
  await db.query(`CREATE FUNCTION add_stray () RETURNS int LANGUAGE sql AS
    $$ INSERT INTO pet (owner_id, name) VALUES (99, 'Stray') RETURNING id $$`)
  const client = await poolOf(db).connect()
  await t.rejects(client.query(new Cursor('SELECT add_stray() AS id')).read(10), { code: 'FST_PG_SCOPE_CONSTRAINT_VIOLATION' })
  client.release()
  await waitFor(() => db.stats().inUse === 0)
})
