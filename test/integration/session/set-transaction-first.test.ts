// SET TRANSACTION must stand in front of every query of its transaction, ours included: settings, timeouts, what a
// new connection is asked.
import t, { type Test } from 'tap'
import { startApp } from '../pgbouncer/app.ts'
import { eachPlace } from '../pgbouncer/places.ts'
import { startPgProxy } from '../../../harness/pg-proxy.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { onlyDirect } from '../../../harness/variant.ts'
import type { PgScopeOptions, Queryable } from '../../../lib/index.ts'

const postgres = await startTestPostgres(t)
await postgres.query('CREATE ROLE reader; GRANT reader TO CURRENT_USER; CREATE TABLE item (n int)')

const set = 'SET TRANSACTION ISOLATION LEVEL SERIALIZABLE'
const ask = `SELECT current_setting('transaction_isolation') AS level, current_setting('transaction_read_only') AS only,
  nullif(current_setting('app.tenant', true), '') AS tenant, current_user::text AS role, current_setting('statement_timeout') AS timeout`
const everything = { settings: { 'app.tenant': 'mine' }, role: 'reader', statementTimeout: 5555 }
const applied = { tenant: 'mine', role: 'reader', timeout: '5555ms' }

const answer = async (db: Queryable): Promise<unknown> => (await db.query(ask)).rows[0]

/** Without the check at the start, the first transaction is what a new connection begins with. */
async function setUp (t: Test, connectionString: string, options: PgScopeOptions = {}) {
  return startApp(t, { connectionString, startupCheck: false, ...options, pool: { max: 1, ...options.pool } })
}

t.test('SET TRANSACTION as the first statement holds, with and without settings, wherever the connection leads', (t) => eachPlace(t, postgres, ['direct', 'transaction', 'session'], async (t, place) => {
  for (const strategy of ['queue', 'null'] as const) {
    for (const [options, expected] of [[{}, { role: postgres.user }], [everything, applied]] as const) {
      const { app, db } = await setUp(t, place.connectionString, { pool: { strategy } })
      app.get('/awaited', { config: { db: options } }, async ({ db }) => {
        await db.query(set)
        return answer(db)
      })
      app.get('/together', { config: { db: options } }, async ({ db }) => {
        const [,, found] = await Promise.all([db.query(set), db.query('set /* ; */ local transaction_read_only = on;'), answer(db)])
        return found
      })
      app.get('/autocommit', { config: { db: { mode: 'autocommit', ...options } } }, ({ db }) => db.transaction(async (db) => {
        await db.query(`-- ours\n${set}`)
        return answer(db)
      }))
      for (const path of ['/awaited', '/together', '/autocommit', '/awaited']) {
        const { statusCode, json } = await app.inject(path)
        t.equal(statusCode, 200, path)
        t.match(json(), { level: 'serializable', only: path === '/together' ? 'on' : 'off', ...expected }, path)
      }
      await db.scope(async (session) => {
        for (let i = 0; i < 2; i++) {
          await session.query('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ')
          t.match(await answer(session), { level: 'repeatable read', ...expected })
          await session.commit()
        }
      }, options)
    }
  }
}))

t.test('SET TRANSACTION ISOLATION LEVEL as the first statement of a nested transaction(fn) fails with PostgreSQL\'s own error', (t) => eachPlace(t, postgres, ['direct', 'transaction', 'session'], async (t, place) => {
  for (const options of [{}, everything]) {
    const { db } = await setUp(t, place.connectionString, options)
    await db.scope(async (session) => {
      // The server tells one of two reasons: a savepoint, or a query of the settings before it.
      const refused = { code: '25001', message: /must (?:not be called in a subtransaction|be called before any query)$/ }
      await t.rejects(session.transaction((inner) => inner.query(set)), refused)
      t.match(await answer(session), { level: 'read committed' }, 'the session goes on without it')
    })
    await db.scope(async (session) => {
      await session.query(set)
      await session.transaction(async (inner) => t.match(await answer(inner), { level: 'serializable' }, 'called before, it holds inside'))
    })
  }
}))

t.test('SET TRANSACTION READ ONLY refuses a write', async (t) => {
  const { db } = await setUp(t, postgres.connectionString, everything)
  for (let i = 0; i < 2; i++) {
    await t.rejects(db.scope((session) => Promise.all([session.query('SET TRANSACTION READ ONLY'), session.query('INSERT INTO item VALUES (1)')]), { role: postgres.user }), { code: '25006' })
  }
})

t.test('one that is wrong says so itself, and what stands behind it does not run', async (t) => {
  const { db } = await setUp(t, postgres.connectionString, everything)
  await db.scope(async (session) => {
    const [wrong, behind] = await Promise.allSettled([session.query("SET TRANSACTION SNAPSHOT 'none'"), session.query('SELECT 1')])
    t.match(wrong, { status: 'rejected', reason: { code: /^(?:0A000|22023|25001|42704)$/ } })
    t.match(behind, { status: 'rejected', reason: { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED' } })
    await session.rollback()
  })
})

t.test('a setting that the server refuses is the failure of what stands behind it', async (t) => {
  const { db } = await setUp(t, postgres.connectionString, { settings: { work_mem: 'much' } })
  await db.scope(async (session) => {
    const [, behind] = await Promise.allSettled([session.query(set), session.query('SELECT 1')])
    t.match(behind, { status: 'rejected', reason: { code: '22023' } })
    await session.rollback()
  })
})

onlyDirect(t, 'SET SESSION is refused behind a pooler').test('nothing but SET TRANSACTION runs before the settings', async (t) => {
  const proxy = await startPgProxy(t, postgres)
  const { db } = await setUp(t, proxy.connectionString(postgres.connectionString), everything)
  for (const first of ['SET LOCAL app.tenant = \'theirs\'', 'SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE', 'SHOW transaction_isolation', '-- SET\rSELECT 1 AS\n"SET TRANSACTION"']) {
    proxy.reset()
    await db.scope((session) => session.query(first))
    const [begin, setting, ...others] = proxy.executed.slice(proxy.executed.indexOf('BEGIN'))
    t.match([begin, setting], ['BEGIN', /^SELECT set_config/], first)
    t.ok(others.includes(first), first)
  }
})

t.test('it costs no round trip more, and is sent again in the same order where a kept connection was dead', async (t) => {
  const proxy = await startPgProxy(t, postgres)
  // What the server is asked once, by itself, is asked at the start.
  const { db } = await setUp(t, proxy.connectionString(postgres.connectionString), {
    ...everything, startupCheck: true
  })
  const work = () => db.scope(async (session) => (await Promise.all([session.query(set), answer(session)]))[1])
  await work()
  const order = ['BEGIN', set, /^SELECT set_config/]
  proxy.reset()
  t.match(await work(), { level: 'serializable', ...applied })
  t.match(proxy.executed.slice(0, 3), order)
  t.same(proxy.executed.slice(3), [ask, 'COMMIT'])
  t.equal(proxy.roundTrips, 2)
  const trap = proxy.cutOn(/^BEGIN/)
  proxy.reset()
  t.match(await work(), { level: 'serializable', ...applied })
  await trap.sprung
  const again = proxy.executed.slice(proxy.executed.lastIndexOf('BEGIN'))
  t.match(again.slice(0, 3), order)
  t.equal(again.filter((text) => text === set).length, 1)
  t.same(again.slice(-2), [ask, 'COMMIT'])
})

t.test('a read-only route that makes its transaction READ WRITE is answered when it is saved', async (t) => {
  for (const change of ['SET TRANSACTION READ WRITE', 'SET LOCAL transaction_read_only TO off', 'SET transaction_read_only = off; SELECT 1']) {
    await postgres.query('TRUNCATE item')
    const { app } = await setUp(t, postgres.connectionString)
    await postgres.query('ALTER TABLE item DROP CONSTRAINT IF EXISTS once, ADD CONSTRAINT once UNIQUE (n) DEFERRABLE INITIALLY DEFERRED')
    app.get('/warm', async ({ db }) => (await db.query('SELECT 1')).rows)
    app.get('/', { config: { db: { readOnly: true } } }, async ({ db }) => {
      await db.query(change)
      await db.query('INSERT INTO item VALUES (1), (1)')
      return { saved: true }
    })
    await app.inject('/warm')
    t.not((await app.inject('/')).statusCode, 200, change)
  }
})
