// What a session leaves on its connection is never there for the next one.
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import { startPgProxy } from '../../../harness/pg-proxy.ts'
import pgScope, { type PgScopeOptions, type Queryable } from '../../../harness/plugin.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { onlyDirect, onlyQueue } from '../../../harness/variant.ts'
import { waitFor } from '../../../harness/wait-for.ts'

const postgres = await startTestPostgres(t)
await postgres.query(`
  CREATE ROLE other;
  CREATE TABLE things (id int);
  CREATE TABLE "Quoted" (id int);
  CREATE FUNCTION harmless () RETURNS text LANGUAGE plpgsql AS $$
    BEGIN UPDATE things SET id = 1 WHERE false; RETURN set_config('app.tenant', 'harmless', true); END $$`)
const test = onlyQueue(onlyDirect(t, 'a pooler refuses these statements'), 'no connection is kept').test.bind(onlyQueue(onlyDirect(t, ''), ''))

async function setUp (t: Test, options: PgScopeOptions = {}, connectionString = postgres.connectionString) {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(pgScope, { connectionString, ...options, pool: { max: 1, ...options.pool } })
  return app.db
}

const look = `
  SELECT current_user <> session_user AS role, current_setting('app.tenant', true) AS tenant, to_regclass('pg_temp.left') AS temp,
    (SELECT count(*)::int FROM pg_locks WHERE locktype = 'advisory') AS locks, (SELECT count(*)::int FROM pg_listening_channels()) AS channels,
    (SELECT count(*)::int FROM pg_prepared_statements WHERE from_sql) AS prepared, (SELECT count(*)::int FROM pg_cursors WHERE is_holdable) AS cursors,
    current_setting('work_mem') AS memory, current_setting('transaction_read_only') AS read_only, current_setting('statement_timeout') AS timeout`
const clean = { role: false, temp: null, locks: 0, channels: 0, prepared: 0, cursors: 0, memory: '4MB', read_only: 'off' }

/** What a setting of the application's own is once some session had it, or before. */
const noTenant = (tenant: unknown): boolean => tenant === null || tenant === ''

const ways: [name: string, ...texts: string[]][] = [
  ['SET', "SET app.tenant = '7'", "SET work_mem = '1MB'"],
  ['SET behind a comment', "/* a comment */ -- another\n SET app.tenant = '7'"],
  ['SET ROLE', 'SET ROLE other'],
  ['SET SESSION AUTHORIZATION', 'SET SESSION AUTHORIZATION other'],
  ['SET SESSION CHARACTERISTICS', 'SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY'],
  ['set_config', "SELECT set_config('app.tenant', '7', false)"],
  ['set_config whose last argument is worked out', "SELECT set_config('app.tenant', '7', 1 = 0)"],
  ['LISTEN', 'LISTEN somewhere'],
  ['a temporary table', 'CREATE TEMP TABLE "left" (id int)'],
  ['SELECT INTO a temporary table', 'SELECT 1 AS id INTO TEMP "left"'],
  ['a session advisory lock', 'SELECT pg_advisory_lock(1)'],
  ['a session advisory lock that is tried for', 'SELECT pg_try_advisory_lock_shared(1)'],
  ['PREPARE', 'PREPARE mine AS SELECT 1'],
  ['a cursor WITH HOLD', 'DECLARE mine CURSOR WITH HOLD FOR SELECT 1'],
  ['a DO block', "DO $$ BEGIN PERFORM set_config('app.tenant', '7', false); EXECUTE 'SET work_mem = ''1MB'''; END $$"],
  ['several statements in one text', "SELECT 1; SET app.tenant = '7'"]
]

for (const [name, ...texts] of ways) {
  test(`${name} leaves nothing for the next session`, async t => {
    const db = await setUp(t, { statementTimeout: 60000 })
    const leave = async (session: Queryable): Promise<void> => { for (const text of texts) await session.query(text) }
    const check = async (how: string): Promise<void> => {
      const { rows: [row] } = await db.query(look)
      t.match(row, { ...clean, timeout: '1min' }, how)
      t.ok(noTenant(row.tenant), how)
    }
    await db.scope(leave)
    await check('after COMMIT')
    await t.rejects(db.scope(async (session) => { await leave(session); throw new Error('rolled back') }))
    await check('after ROLLBACK')
    const next = Promise.all([db.scope(leave), db.query(look)])
    t.match((await next)[1].rows[0], clean, 'for a session that waits')
    if (!name.startsWith('a cursor')) {
      await db.scope(leave, { mode: 'autocommit' })
      await check("after mode 'autocommit'")
      await leave(db)
      await check('after app.db.query()')
    }
    await db.scope((session) => session.transaction(leave))
    await check('after transaction(fn)')
    t.equal(db.stats().counters.opened, 1, 'on one connection')
  })
}

const functions: [name: string, body: string][] = [
  ['set_config', "PERFORM set_config('app.tenant', '7', false);"],
  ['one set_config of two', "PERFORM set_config('app.tenant', '7', false), set_config('app.other', '7', true);"],
  ['SET', "SET app.tenant = '7';"],
  ['SET in a string', "EXECUTE format('SET app.tenant = %L', '7');"],
  ['a session advisory lock', 'PERFORM pg_advisory_lock(1);'],
  ['LISTEN', 'LISTEN somewhere;'],
  ['a temporary table', 'CREATE TEMPORARY TABLE "left" (id int);'],
  ['another function', 'PERFORM inner_one();']
]

for (const when of ['before the start', 'later'] as const) {
  for (const [i, [name, body]] of functions.entries()) {
    test(`a function made ${when} that leaves ${name} behind leaves nothing for the next session`, async t => {
      const own = await postgres.createDatabase()
      const create = async (): Promise<void> => {
        await postgres.query("CREATE FUNCTION inner_one () RETURNS text LANGUAGE sql AS $$ SELECT set_config('app.tenant', '7', false) $$", [], own)
        await postgres.query(`CREATE FUNCTION leaves_${i} () RETURNS void LANGUAGE plpgsql AS $$ BEGIN ${body} END $$`, [], own)
      }
      if (when === 'before the start') await create()
      const db = await setUp(t, {}, own)
      await db.query('SELECT 1')
      if (when === 'later') await create()
      for (const text of [`SELECT leaves_${i}()`, `SELECT * FROM public.leaves_${i} ()`, `SELECT leaves_${i}()`]) {
        await db.scope((session) => session.query(text))
        const { rows: [row] } = await db.query(look)
        t.match(row, clean)
        t.ok(noTenant(row.tenant))
      }
      t.equal(db.stats().counters.opened, 1)
    })
  }
}

test('a trigger that leaves something behind leaves nothing for the next session', async t => {
  const own = await postgres.createDatabase()
  const create = `
    CREATE TABLE watched (id int);
    CREATE FUNCTION watch () RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('app.tenant', '7', false); RETURN NEW; END $$;
    CREATE TRIGGER watch BEFORE INSERT ON watched FOR EACH ROW EXECUTE FUNCTION watch()`
  const db = await setUp(t, {}, own)
  await db.query(create)
  for (let i = 0; i < 2; i++) {
    await db.query('INSERT INTO watched VALUES (1)')
    t.ok(noTenant((await db.query(look)).rows[0].tenant))
  }
})

test('what is prepared is prepared again behind a reset', async t => {
  const db = await setUp(t)
  for (let i = 0; i < 10; i++) {
    t.equal((await db.query({ name: 'mine', text: 'SELECT $1::int AS n', values: [i] })).rows[0].n, i)
    t.equal((await db.query('SELECT $1::int AS m', [i])).rows[0].m, i)
    if (i % 2 === 0) await db.query("SET app.tenant = '7'")
  }
  t.equal(db.stats().counters.opened, 1)
})

test('a session advisory lock is free as soon as its session is over', async t => {
  const db = await setUp(t)
  await db.query('SELECT pg_advisory_lock(5)')
  await waitFor(async () => (await postgres.query('SELECT pg_try_advisory_lock(5) AS free')).rows[0].free)
})

test('what leaves nothing behind costs no round trip', async t => {
  const proxy = await startPgProxy(t, postgres)
  const db = await setUp(t, {}, proxy.connectionString(postgres.connectionString))
  await db.query('SELECT harmless()')
  await waitFor(() => db.stats().inUse === 0, { message: 'the functions were looked through' })
  proxy.reset()
  const texts = [
    "SELECT set_config('app.tenant', $1, true)", 'SELECT harmless()', 'UPDATE things SET id = 1', 'INSERT INTO things (id) VALUES (1) ON CONFLICT DO NOTHING',
    "SET LOCAL app.tenant = '7'", 'CREATE TEMP TABLE short (id int) ON COMMIT DROP', 'SELECT pg_advisory_xact_lock(1)', 'INSERT INTO "Quoted" ("id") VALUES (1)',
    'WITH named (id) AS (SELECT count(*) FROM things) SELECT id FROM named AS other (id)', "SELECT 'set role x; listen y (1)'"
  ]
  for (const text of texts) await db.scope((session) => session.query(text, text.includes('$1') ? ['7'] : []))
  t.same(proxy.executed, texts.flatMap((text) => ['BEGIN', text, 'COMMIT']))
})

test("with sessionState 'keep' the next session finds what was left", async t => {
  const db = await setUp(t, { sessionState: 'keep' })
  await db.query("SET app.tenant = '7'")
  await db.query('SELECT pg_advisory_lock(9)')
  t.match((await db.query(look)).rows[0], { tenant: '7', locks: 1 })
})

test('a connection that cannot be reset is replaced', async t => {
  const proxy = await startPgProxy(t, postgres)
  const db = await setUp(t, {}, proxy.connectionString(postgres.connectionString))
  proxy.cutOn('DISCARD ALL')
  await db.query("SET app.tenant = '7'")
  t.ok(noTenant((await db.query(look)).rows[0].tenant))
  await waitFor(() => db.stats().inUse === 0)
  t.match(db.stats(), { open: 1, counters: { opened: 2 } })
})
