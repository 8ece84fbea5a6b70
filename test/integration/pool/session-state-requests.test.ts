// Requests, streams, hang-ups and load: what one request leaves on its connection is never there for another.
import { once } from 'node:events'
import { connect } from 'node:net'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import pgScope, { type PgScopeOptions } from '../../../harness/plugin.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { onlyDirect, onlyQueue } from '../../../harness/variant.ts'
import { waitFor } from '../../../harness/wait-for.ts'

const postgres = await startTestPostgres(t)
await postgres.query('CREATE ROLE other')
const test = onlyQueue(onlyDirect(t, 'a pooler refuses these statements'), 'no connection is kept').test.bind(onlyQueue(onlyDirect(t, ''), ''))

const look = `
  SELECT coalesce(current_setting('app.tenant', true), '') AS tenant, current_user = session_user AS own_role,
         to_regclass('pg_temp.left') AS temp, (SELECT count(*)::int FROM pg_listening_channels()) AS channels,
         (SELECT count(*)::int FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()) AS locks`
const clean = { tenant: '', own_role: true, temp: null, channels: 0, locks: 0 }

const leaving = [
  "SET app.tenant = '7'", "SELECT set_config('app.tenant', '7', false)", 'SET ROLE other', 'LISTEN somewhere',
  'CREATE TEMP TABLE "left" (id int)', 'CREATE TEMP VIEW "left" AS SELECT 1 AS id', 'CREATE TEMP SEQUENCE "left"',
  'CREATE TABLE pg_temp.left (id int)', 'SELECT pg_try_advisory_lock(7)',
  "DO $$ BEGIN EXECUTE 'SET app.tenant = 7'; END $$"
]

async function setUp (t: Test, options: PgScopeOptions = {}): Promise<FastifyInstance> {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(pgScope, {
    connectionString: postgres.connectionString, ...options, pool: { max: 1, ...options.pool }
  })
  app.get('/leave/:i', async ({ db, params }) => { await db.query(leaving[Number((params as { i: string }).i)]!); return {} })
  app.get('/fail/:i', async ({ db, params }) => {
    await db.query(leaving[Number((params as { i: string }).i)]!)
    throw new Error('rolled back')
  })
  app.get('/unawaited/:i', async ({ db, params }) => { db.query(leaving[Number((params as { i: string }).i)]!); return {} })
  app.get('/look', async ({ db }) => (await db.query(look)).rows[0])
  return app
}

for (const mode of ['transaction', 'autocommit'] as const) {
  test(`a request in mode '${mode}' finds nothing of the one before`, async t => {
    const app = await setUp(t, { mode })
    for (const [i, text] of leaving.entries()) {
      for (const way of ['leave', 'unawaited', 'fail']) {
        const first = app.inject(`/${way}/${i}`)
        t.match((await app.inject('/look')).json(), clean, `${way}: ${text}`)
        t.equal((await first).statusCode, way === 'fail' ? 500 : 200)
      }
    }
    t.equal(app.db.stats().counters.opened, 1)
  })

  test(`in mode '${mode}' with settings a request finds nothing of the one before`, async t => {
    const app = await setUp(t, { mode, settings: { 'app.other': 'x' }, statementTimeout: 30000 })
    for (const [i, text] of leaving.entries()) {
      await app.inject(`/leave/${i}`)
      t.match((await app.inject('/look')).json(), clean, text)
    }
  })
}

test('a nested transaction(fn) that is rolled back keeps no lock for the next session', async t => {
  const { db } = await setUp(t)
  await db.scope(async (session) => {
    await t.rejects(session.transaction(async (inner) => {
      await inner.query('SELECT pg_advisory_lock(3)')
      throw new Error('undone')
    }))
  })
  t.match((await db.query(look)).rows[0], clean)
})

test('a stream leaves nothing for the next session', async t => {
  const { db } = await setUp(t)
  for (const mode of ['transaction', 'autocommit'] as const) {
    await db.scope(async (session) => {
      const rows = session.stream("SELECT set_config('app.tenant', '7', false), pg_advisory_lock(4) FROM generate_series(1, 3)")
      for await (const row of rows) t.ok(row)
    }, { mode })
    t.match((await db.query(look)).rows[0], clean, mode)
  }
})

test('a session that is closed by hand leaves nothing for the next one', async t => {
  const { db } = await setUp(t)
  for (const end of ['commit', 'rollback', 'close'] as const) {
    const session = db.session()
    await session.query("SET app.tenant = '7'")
    await session.query('SELECT pg_advisory_lock(5)')
    await session[end]()
    await session.close()
    t.match((await db.query(look)).rows[0], clean, end)
  }
})

test('a client that hangs up leaves nothing for the next request', async t => {
  const app = await setUp(t)
  app.get('/slow', async ({ db }) => {
    await db.query('SELECT pg_advisory_lock(6)')
    await db.query("SET app.tenant = '7'")
    await db.query('SELECT pg_sleep(30)')
    return {}
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const socket = connect((app.server.address() as { port: number }).port, '127.0.0.1')
  await once(socket, 'connect')
  socket.write('GET /slow HTTP/1.1\r\nhost: x\r\n\r\n')
  await waitFor(async () => (await postgres.query("SELECT FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(30)%'")).rows.length > 0)
  socket.destroy()
  t.match((await app.inject('/look')).json(), clean)
})

test('a function that runs a statement from a variable leaves nothing for the next session', async t => {
  const { db } = await setUp(t)
  await db.query('CREATE FUNCTION run_text (statement text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE statement; END $$')
  await db.query('CREATE PROCEDURE call_text (statement text) LANGUAGE plpgsql AS $$ BEGIN EXECUTE statement; END $$')
  for (const text of ['SELECT run_text($1)', 'CALL call_text($1)']) {
    for (let i = 0; i < 8; i++) {
      await db.query(text, ["SET app.tenant = '7'"])
      t.match((await db.query(look)).rows[0], clean)
    }
  }
})

test('a trigger that a DO block makes leaves nothing for the next session', async t => {
  const connectionString = await postgres.createDatabase()
  const { db } = await setUp(t, { connectionString })
  await db.query(`DO $$ BEGIN
    CREATE TABLE watched (id int);
    CREATE FUNCTION watch () RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_lock(8); RETURN NEW; END';
    CREATE TRIGGER watch BEFORE INSERT ON watched FOR EACH ROW EXECUTE FUNCTION watch();
  END $$`)
  await db.query('INSERT INTO watched VALUES (1)')
  t.match((await db.query(look)).rows[0], clean)
})

test('where the functions cannot be read every session is reset', async t => {
  const connectionString = await postgres.createDatabase()
  await postgres.query(`
    CREATE FUNCTION leaves_tenant () RETURNS text LANGUAGE sql AS $$ SELECT set_config('app.tenant', '7', false) $$;
    REVOKE SELECT ON pg_proc FROM PUBLIC;
    DO $$ BEGIN EXECUTE format('GRANT CONNECT ON DATABASE %I TO other', current_database()); END $$;
    ALTER ROLE other LOGIN PASSWORD 'other'`, [], connectionString)
  const url = new URL(connectionString)
  url.username = 'other'
  url.password = 'other'
  const { db } = await setUp(t, { connectionString: url.href })
  await db.query('SELECT leaves_tenant()')
  t.match((await db.query("SELECT coalesce(current_setting('app.tenant', true), '') AS tenant")).rows[0], { tenant: '' })
})

test('under load no request ever finds what another one left', async t => {
  const app = await setUp(t, { pool: { max: 3 } })
  const answers = await Promise.all(Array.from({ length: 300 }, async (_, i) => {
    await new Promise((resolve) => setImmediate(resolve))
    if (i % 5 === 0) return await app.inject(`/${['leave', 'fail', 'unawaited'][i % 3]}/${(i / 5) % leaving.length}`) && null
    return (await app.inject('/look')).json()
  }))
  for (const answer of answers) {
    if (answer !== null && JSON.stringify(answer) !== JSON.stringify(clean)) {
      t.match(answer, clean)
    }
  }
  t.ok(app.db.stats().counters.opened <= 3)
  t.ok(app.db.stats().counters.handedOver > 0, 'connections went on with their COMMITs under way')
})

test('a role from the startup packet is there again behind a reset', async t => {
  const connectionString = `${postgres.connectionString}?options=${encodeURIComponent('-c role=other -c work_mem=2MB')}`
  const { db } = await setUp(t, { connectionString })
  for (const text of ['SET ROLE NONE', "SET work_mem = '1MB'", 'RESET ROLE', 'SET SESSION AUTHORIZATION DEFAULT']) {
    await db.query(text)
    const { rows } = await db.query("SELECT current_user AS role, current_setting('work_mem') AS memory")
    t.same(rows, [{ role: 'other', memory: '2MB' }], text)
  }
})
