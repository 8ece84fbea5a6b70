import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { hostname, tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import t from 'tap'
import { startApp } from './app.ts'
import { eachPlace } from './places.ts'
import { startPgProxy } from '../../../harness/pg-proxy.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import type { Engine, PgScopeOptions, Queryable } from '../../../lib/index.ts'

const postgres = await startTestPostgres(t)
await postgres.query('CREATE ROLE tenant')
const knowsTransactionTimeout = (await postgres.query('SELECT current_setting(\'server_version_num\')::int AS version')).rows[0].version >= 170000

const options: PgScopeOptions = {
  statementTimeout: 11111,
  lockTimeout: 2222,
  idleInTransactionTimeout: 33333,
  ...(knowsTransactionTimeout && { transactionTimeout: 44444 }),
  settings: { 'app.tenant': 'mine', TimeZone: 'Asia/Tokyo', search_path: 'pg_catalog' },
  role: 'tenant'
}
/** As pg_settings has them: milliseconds. */
const applied = { statement: '11111', lock: '2222', idle: '33333', transaction: knowsTransactionTimeout ? '44444' : null, tenant: 'mine', zone: 'Asia/Tokyo', path: 'pg_catalog', role: 'tenant' }
const untouched = { statement: '0', lock: '0', idle: '0', transaction: knowsTransactionTimeout ? '0' : null, tenant: null, zone: 'UTC', path: '"$user", public', role: postgres.user }

// A custom setting that was used on a backend and is not set reads as '' there, not as NULL.
const ask = `
  SELECT (SELECT setting FROM pg_settings WHERE name = 'statement_timeout') AS statement, (SELECT setting FROM pg_settings WHERE name = 'lock_timeout') AS lock,
    (SELECT setting FROM pg_settings WHERE name = 'idle_in_transaction_session_timeout') AS idle, (SELECT setting FROM pg_settings WHERE name = 'transaction_timeout') AS transaction,
    nullif(current_setting('app.tenant', true), '') AS tenant, current_setting('TimeZone') AS zone, current_setting('search_path') AS path, current_user AS role`

/** Everything that a session can do, and how each ends. */
const work: Record<string, (db: Engine) => Promise<unknown>> = {
  'a transaction that is committed': (db) => db.scope((session) => session.query('SELECT 1')),
  'a transaction that is rolled back': (db) => db.scope(async (session) => {
    await session.query('SELECT 1')
    throw new Error('no')
  }),
  'a statement that fails': (db) => db.scope((session) => session.query('SELECT 1/0')),
  'a statement by itself': (db) => db.query('SELECT 1'),
  'a statement by itself that fails': (db) => db.query('SELECT 1/0'),
  'several statements in one text': (db) => db.query('SELECT 1; SELECT 2'),
  'a stream that is left early': (db) => db.scope(async (session) => { for await (const row of session.stream('SELECT generate_series(1, 1000)', [], { batchSize: 10 })) if (row) break }),
  'a statement that is canceled': (db) => {
    const controller = new AbortController()
    return db.scope(async (session) => {
      await session.query('SELECT 1')
      queueMicrotask(() => controller.abort())
      await session.query('SELECT pg_sleep(20)')
    }, { signal: controller.signal })
  }
}

async function fromSomebodyElse (connectionString: string) {
  const client = new pg.Client({ connectionString, application_name: 'somebody else' })
  client.on('error', () => {})
  await client.connect()
  try {
    const { rows: [row] } = await client.query(`${ask}, pg_backend_pid() AS pid`)
    return row
  } finally {
    await client.end()
  }
}

t.test('timeouts, settings and role hold, at no round trip more', (t) => eachPlace(t, postgres, ['direct', 'transaction', 'session'], async (t, place) => {
  const proxy = await startPgProxy(t, place)
  for (const strategy of ['queue', 'null'] as const) {
    const { app, db } = await startApp(t, {
      connectionString: proxy.connectionString(place.connectionString), pool: { strategy, max: 1 }, ...options
    })
    app.get('/', async (request) => (await request.db.query(ask)).rows[0])
    app.get('/own', { config: { db: { statementTimeout: 5555, settings: { 'app.tenant': 'other' } } } }, async (request) => (await request.db.query(ask)).rows[0])
    app.get('/single', { config: { db: { mode: 'autocommit' } } }, async (request) => (await request.db.query(ask)).rows[0])
    // The first connection is asked who answers.
    await db.scope((session) => session.query('SELECT 1'))
    const holds = async (db: Queryable, expected: object = applied): Promise<void> => {
      t.match((await db.query(ask)).rows[0], expected)
    }
    const roundTrips = async (fn: () => Promise<unknown>): Promise<number> => {
      proxy.reset()
      await fn()
      return proxy.roundTrips
    }
    t.equal(
      await roundTrips(() => db.scope(async (session) => { for (let i = 0; i < 3; i++) await holds(session) })), 4
    )
    t.equal(await roundTrips(() => db.scope((session) => holds(session, { ...applied, statement: '7777', role: postgres.user }), { statementTimeout: 7777, role: postgres.user })), 2)
    // A statement by itself is no transaction that could be idle; on a direct connection its timeout is in the
    // startup packet.
    const alone = { ...applied, idle: place.mode === 'direct' ? applied.idle : untouched.idle }
    t.equal(await roundTrips(() => holds(db, alone)), 1)
    t.equal(await roundTrips(async () => t.match((await app.inject('/')).json(), applied)), 2)
    t.equal(await roundTrips(async () => t.match((await app.inject('/own')).json(), { ...applied, statement: '5555', tenant: 'other' })), 2)
    t.equal(await roundTrips(async () => t.match((await app.inject('/single')).json(), alone)), 1)
    t.equal(
      await roundTrips(() => db.scope(async (session) => t.match(await session.stream(ask).toArray(), [applied]))), 2
    )
  }
}))

t.test('timeouts, settings and role are never those of the next session on the server connection', (t) => eachPlace(t, postgres, ['transaction', 'session'], async (t, place) => {
  t.match(await fromSomebodyElse(place.connectionString), untouched)
  // In session mode a client that is kept keeps its server connection, too.
  for (const strategy of place.mode === 'session' ? ['null'] as const : ['queue', 'null'] as const) {
    const { db } = await startApp(t, { connectionString: place.connectionString, pool: { strategy }, ...options })
    for (const [name, run] of Object.entries(work)) {
      const { rows: [{ pid }] } = await db.query('SELECT pg_backend_pid() AS pid')
      await run(db).catch(() => {})
      const found = await fromSomebodyElse(place.connectionString)
      t.equal(found.pid, pid, `the same server connection after ${name}`)
      t.match(found, untouched, `nothing is left of ${name}`)
    }
  }
}, { default_pool_size: 1 }))

t.test('pg_stat_activity shows the same application_name', (t) => eachPlace(t, postgres, ['direct', 'transaction', 'session'], async (t, place) => {
  const shown = async (options: PgScopeOptions): Promise<string> => {
    const { db } = await startApp(t, { connectionString: place.connectionString, ...options })
    return (await db.query('SELECT application_name AS name FROM pg_stat_activity WHERE pid = pg_backend_pid()')).rows[0].name
  }
  t.equal(await shown({}), `fastify-pg-scope:${userInfo().username}@${hostname()}`)
  for (const strategy of ['queue', 'null'] as const) t.equal(await shown({ applicationName: 'shop:ann@"web\\1\'s"', pool: { strategy } }), 'shop:ann@"web\\1\'s"')
  t.equal(await shown({ applicationName: 'shop:jörg@web' }), 'shop:j\\xc3\\xb6rg@web', 'as PostgreSQL shows what is not ASCII, from version 16 on')
  t.equal(await shown({ applicationName: 'x'.repeat(70) }), 'x'.repeat(63))

  const folder = await mkdtemp(join(tmpdir(), 'pg-scope-name-'))
  const program = process.argv[1]!
  t.teardown(async () => {
    process.argv[1] = program
    await rm(folder, { recursive: true })
  })
  for (const [name, expected] of [['y'.repeat(62) + 'é', 'y'.repeat(62)], ['y'.repeat(61) + 'z', `${'y'.repeat(61)}z:`]] as const) {
    await writeFile(join(folder, 'package.json'), JSON.stringify({ name }))
    process.argv[1] = join(folder, 'main.js')
    t.equal(await shown({}), expected, 'cut in front of the character that goes beyond 63 bytes')
  }
}))
