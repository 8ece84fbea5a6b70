import t, { type Test } from 'tap'
import { startApp } from './app.ts'
import { eachPlace, type Place } from './places.ts'
import { startPgProxy } from '../../../harness/pg-proxy.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import type { PgScopeOptions, Queryable } from '../../../lib/index.ts'

const postgres = await startTestPostgres(t)
await postgres.query('CREATE TABLE things (name text PRIMARY KEY)')

const names = async (): Promise<string[]> => (await postgres.query('SELECT name FROM things ORDER BY name')).rows.map(({ name }) => name)
const insert = (db: Queryable, name: string) => db.query('INSERT INTO things VALUES ($1)', [name])
const backend = async (db: Queryable): Promise<number> => (await db.query('SELECT pg_backend_pid() AS pid')).rows[0].pid
const open = async (): Promise<string[]> => (await postgres.activity()).filter(({ state }) => state !== 'idle').map(({ state, query }) => `${state}: ${query}`)

async function setUp (t: Test, place: Place, options: PgScopeOptions) {
  const proxy = await startPgProxy(t, place)
  const started = await startApp(t, { connectionString: proxy.connectionString(place.connectionString), mode: 'autocommit', ...options })
  await postgres.query('TRUNCATE things')
  // A new connection that is kept is asked who answers.
  await Promise.all([started.db.query('SELECT 1'), started.db.query('SELECT 1')])
  return { ...started, proxy }
}

t.test('mode \'autocommit\'', (t) => eachPlace(t, postgres, ['transaction', 'session'], async (t, place) => {
  for (const strategy of ['queue', 'null'] as const) {
    const pool = { strategy, max: 2 }

    await t.test(`each statement is committed by itself in one round trip, and nothing stays open (${strategy})`, async (t) => {
      const { app, db, proxy } = await setUp(t, place, { pool })
      app.get('/', async (request) => {
        await insert(request.db, 'a')
        t.same([await names(), await open(), db.stats().inUse], [['a'], [], 0])
        await insert(request.db, 'a').catch(() => {})
        await insert(request.db, 'b')
        throw new Error('late')
      })
      proxy.reset()
      t.equal((await app.inject('/')).statusCode, 500)
      t.equal(proxy.roundTrips, 3)
      t.same(await names(), ['a', 'b'])
      await t.rejects(insert(db, 'a'), { code: '23505' })
      t.same(await open(), [])
    })

    await t.test(`settings, role and timeouts are local to a statement: of sessions side by side, each has its own (${strategy})`, async (t) => {
      const { db, proxy } = await setUp(t, place, { pool })
      const text = 'SELECT current_setting(\'app.tenant\') AS tenant, current_setting(\'statement_timeout\') AS timeout'
      proxy.reset()
      await Promise.all([1, 2, 3, 4].map((tenant) => db.scope(async (session) => {
        for (let i = 0; i < 10; i++) t.same((await session.query(text)).rows, [{ tenant: String(tenant), timeout: `${tenant}s` }])
      }, { settings: { 'app.tenant': tenant }, statementTimeout: tenant * 1000 })))
      // A connection that is opened only now asks who answers.
      const looks = proxy.executed.filter((text) => text.includes('pg_backend_pid')).length
      t.equal(proxy.roundTrips, 40 + looks)
      for (let i = 0; i < 4; i++) t.same((await db.query('SELECT nullif(current_setting(\'app.tenant\', true), \'\') AS tenant, current_setting(\'statement_timeout\') AS timeout')).rows, [{ tenant: null, timeout: '0' }])
      await t.rejects(db.scope((session) => insert(session, 'a'), { readOnly: true }), { code: '25006' })
      await insert(db, 'b')
      await t.rejects(db.scope((session) => session.query('SELECT pg_sleep(10)'), { statementTimeout: 20 }), { code: '57014' })
      t.same((await db.scope((session) => session.query('SELECT 1 AS one; SELECT current_setting(\'app.tenant\') AS tenant'), { settings: { 'app.tenant': 'several' } }) as unknown as { rows: unknown[] }[]).map(({ rows }) => rows[0]), [{ one: 1 }, { tenant: 'several' }])
      t.same(await names(), ['b'])
    })

    await t.test(`a stream is a transaction of its own: read to its end, left early, and failed (${strategy})`, async (t) => {
      const { db } = await setUp(t, place, { pool })
      const rows = 'SELECT generate_series(1, $1::int) AS n'
      await db.scope(async (session) => {
        const [first, second] = await Promise.all(
          [session.stream(rows, [1500]).toArray(), session.stream(rows, [700], { batchSize: 10 }).toArray()]
        )
        t.same([first.length, first.at(-1), second.length, second.at(-1)], [1500, { n: 1500 }, 700, { n: 700 }])
        for await (const { n } of session.stream(rows, [1500], { batchSize: 10 })) if (n === 25) break
        await t.rejects(session.stream('SELECT 1 / (20 - n) FROM generate_series(1, 30) AS n', [], { batchSize: 5 }).toArray(), { code: '22012' })
        await insert(session, 'a')
      })
      t.same([await names(), await open(), db.stats().inUse], [['a'], [], 0])
    })

    await t.test(`transaction(fn) is a real transaction on one server connection, and statements beside it are on another (${strategy})`, async (t) => {
      const { db } = await setUp(t, place, { pool })
      await db.scope(async (session) => {
        const beside = db.scope(async (other) => {
          await insert(other, 'beside')
          return await backend(other)
        })
        await session.transaction(async (inner) => {
          const pid = await backend(inner)
          await insert(inner, 'a')
          t.not(await beside, pid)
          await t.rejects(inner.transaction(async (nested) => {
            await insert(nested, 'b')
            throw new Error('no')
          }), { message: 'no' })
          t.same(await names(), ['beside'])
          t.equal(await backend(inner), pid)
          await insert(inner, 'c')
        })
        t.same(await names(), ['a', 'beside', 'c'])
        await t.rejects(session.transaction(async (inner) => {
          await insert(inner, 'd')
          await insert(inner, 'a')
        }), { code: '23505' })
        await insert(session, 'e')
      })
      t.same([await names(), await open()], [['a', 'beside', 'c', 'e'], []])
    })
  }

  await t.test('VACUUM runs by itself, and not where a timeout has to ride with it', async (t) => {
    // In session mode a kept client would keep its server connection, too.
    const pool = { strategy: 'null' } as const
    const plain = await setUp(t, place, { pool })
    await plain.db.query('VACUUM things')
    const { db } = await setUp(t, place, { pool, statementTimeout: 20000 })
    await t.rejects(db.query('VACUUM things'), { code: '25001' })
    t.equal((await db.query('SELECT 1')).rowCount, 1)
  })
}, { default_pool_size: 2 }))
