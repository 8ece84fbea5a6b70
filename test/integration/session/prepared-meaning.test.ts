// What the plugin prepares by itself means what it would mean unprepared, and succeeds where it would succeed.
import Fastify, { type FastifyRequest } from 'fastify'
import t, { type Test } from 'tap'
import pgScope, { type Engine, type PgScopeOptions, type Session } from '../../../harness/plugin.ts'
import { startPgProxy } from '../../../harness/pg-proxy.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { onlyAnnounced, onlyDirect, onlyQueue } from '../../../harness/variant.ts'

const postgres = await startTestPostgres(t)

async function setUp (t: Test, options: PgScopeOptions = {}) {
  const proxy = await startPgProxy(t, postgres)
  const lines: string[] = []
  const app = Fastify({ logger: { level: 'debug', stream: { write: (line: string) => { lines.push(line) } } } })
  t.teardown(() => app.close())
  await app.register(pgScope, {
    connectionString: proxy.connectionString(options.connectionString as string ?? postgres.connectionString),
    ...options,
    pool: { max: 1, ...options.pool }
  })
  const parsed = (text: string): number => proxy.statements.filter((statement) => statement.trim() === text).length
  return { app, proxy, db: app.db, parsed, log: () => lines.join('') }
}

const known = onlyAnnounced(t, 'nothing is prepared by itself')

/** Often enough to be prepared. */
const often = async (run: () => Promise<unknown>): Promise<void> => { for (let i = 0; i < 8; i++) await run() }

const first = (db: Engine, text: string, values: unknown[]) => db.scope((session) => session.query(text, values))
const single = (db: Engine, text: string, values: unknown[]) => db.query(text, values)
const later = (db: Engine, text: string, values: unknown[]) => db.scope(async (session) => {
  await session.query('SELECT 1 AS before')
  return await session.query(text, values)
})

let tables = 0
const alterations = [
  { what: 'text to int, INSERT', from: 'text', to: 'int USING a::int', text: 'INSERT INTO t VALUES ($1)', before: '1', after: '2' },
  { what: 'int to bigint, INSERT', from: 'int', to: 'bigint', text: 'INSERT INTO t VALUES ($1)', before: '1', after: '3000000000' },
  { what: 'int to text, INSERT', from: 'int', to: 'text', text: 'INSERT INTO t VALUES ($1)', before: '1', after: 'abc' },
  { what: 'text to int, UPDATE', from: 'text', to: 'int USING a::int', text: 'UPDATE t SET a = $1', before: '1', after: '2' },
  { what: 'int to text, UPDATE', from: 'int', to: 'text', text: 'UPDATE t SET a = $1', before: '1', after: 'abc' },
  { what: 'int to bigint, SELECT by a value', from: 'int', to: 'bigint', text: 'SELECT * FROM t WHERE a = $1', before: '1', after: '3000000000' },
  { what: 'int to text, SELECT by a value', from: 'int', to: 'text', text: 'SELECT * FROM t WHERE a = $1', before: '1', after: 'abc' },
  { what: 'text to int, SELECT by a value', from: 'text', to: 'int USING a::int', text: 'SELECT * FROM t WHERE a = $1', before: '1', after: '2' },
  { what: 'uuid to text, SELECT by a value', from: 'uuid', to: 'text', text: 'SELECT * FROM t WHERE a = $1', before: '00000000-0000-4000-8000-000000000000', after: 'abc' }
]

for (const [how, run] of Object.entries({ 'by itself': single, 'first in its transaction': first })) {
  for (const { what, from, to, text: written, before, after } of alterations) {
    known.test(`after ALTER COLUMN TYPE (${what}) a statement ${how} succeeds at once`, async t => {
      const { db } = await setUp(t, { pool: { max: 2 } })
      const table = `altered_${++tables}`
      const text = written.replace(/\bt\b/, table)
      await postgres.query(`CREATE TABLE ${table} (a ${from})`)
      await often(() => Promise.all([run(db, text, [before]), run(db, text, [before])]))
      await postgres.query(`ALTER TABLE ${table} ALTER a TYPE ${to}`)
      for (let i = 0; i < 4; i++) await t.resolves(Promise.all([run(db, text, [after]), run(db, text, [after])]))
    })
  }
}

known.test('later in a transaction a statement whose types were altered is answered 503 with Retry-After, once at most', async t => {
  const { app, db } = await setUp(t)
  await postgres.query('CREATE TABLE altered_later (a text)')
  const text = 'INSERT INTO altered_later VALUES ($1)'
  app.get('/', async (request) => {
    await request.db.query('SELECT 1 AS before')
    return (await request.db.query(text, ['2'])).rowCount
  })
  await often(() => later(db, text, ['1']))
  await postgres.query('ALTER TABLE altered_later ALTER a TYPE int USING a::int')
  const { statusCode, headers } = await app.inject('/')
  if (statusCode !== 200) t.match([statusCode, headers['retry-after']], [503, '1'])
  t.equal((await app.inject('/')).statusCode, 200)
})

for (const { what, from, to, text: written, before, after } of alterations) {
  known.test(`later in a transaction, after ALTER COLUMN TYPE (${what}), a statement is answered 503 with Retry-After once at most`, async t => {
    const { app, db } = await setUp(t)
    const ways: Record<string, (request: FastifyRequest, text: string) => Promise<unknown>> = {
      plain: (request, text) => request.db.query(text, [after]),
      nested: (request, text) => request.db.transaction((db) => db.query(text, [after])),
      beside: (request, text) => Promise.all([request.db.query(text, [after]), request.db.query('SELECT 1')])
    }
    const texts = new Map(Object.keys(ways).map((way) => [way, written.replace(/\bt\b/, `altered_${++tables}`)]))
    for (const [way, run] of Object.entries(ways)) {
      app.get(`/${way}`, async (request) => {
        await request.db.query('SELECT 1 AS before')
        await run(request, texts.get(way)!)
        return 'fine'
      })
    }
    for (const [way, text] of texts) {
      const [table] = /altered_\d+/.exec(text)!
      await postgres.query(`CREATE TABLE ${table} (a ${from})`)
      await often(() => later(db, text, [before]))
      await postgres.query(`ALTER TABLE ${table} ALTER a TYPE ${to}`)
      const { statusCode, headers } = await app.inject(`/${way}`)
      if (statusCode !== 200) t.match([statusCode, headers['retry-after']], [503, '1'], way)
      for (let i = 0; i < 3; i++) t.equal((await app.inject(`/${way}`)).statusCode, 200, way)
    }
  })
}

known.test('a value that fits no type, later in a transaction, fails as it does unprepared, and its savepoint can be left', async t => {
  const { app, db, log } = await setUp(t)
  await postgres.query('CREATE TABLE misfits (id uuid); CREATE TABLE kept_beside (a int)')
  const text = 'SELECT * FROM misfits WHERE id = $1'
  await often(() => later(db, text, ['00000000-0000-4000-8000-000000000000']))
  const bad = (session: Pick<Session, 'query'>) => session.query(text, ['no uuid'])
  const code = (error: { code?: string, statusCode?: number }) => [error.code, error.statusCode]
  await db.scope(async (session) => {
    await session.query('INSERT INTO kept_beside VALUES (1)')
    for (let i = 0; i < 2; i++) t.same(await session.transaction(bad).catch(code), ['22P02', undefined])
    const savepoint = await session.savepoint()
    t.same(await bad(session).catch(code), ['22P02', undefined])
    await savepoint.rollback()
    await session.query('INSERT INTO kept_beside VALUES (2)')
  })
  t.same((await postgres.query('SELECT a FROM kept_beside ORDER BY a')).rows, [{ a: 1 }, { a: 2 }])
  for (const end of ['commit', 'rollback'] as const) {
    await db.scope(async (session) => {
      await session.query('INSERT INTO kept_beside VALUES (3)')
      const [first, second] = await Promise.allSettled([bad(session), session.query('SELECT 1')]) as PromiseRejectedResult[]
      t.same(code(first!.reason), ['22P02', undefined])
      t.equal(second!.reason.code, 'FST_PG_SCOPE_TRANSACTION_ABORTED')
      await t.rejects(session.query('SELECT 1'), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED' })
      if (end === 'commit') await t.rejects(session.commit(), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED' })
      await session.rollback()
      t.same((await session.query('SELECT 1 AS again')).rows, [{ again: 1 }])
    })
  }
  t.equal((await postgres.query('SELECT FROM kept_beside')).rowCount, 2, 'nothing else was saved')
  t.match(app.db.stats(), { inUse: 0 })
  t.notMatch(log(), /no transaction in progress/)
})

onlyQueue(known, 'a connection prepares for the statements after it').test('a value that fits no type fails as it does unprepared, and what is prepared stays prepared, for all sessions', async t => {
  const { db, parsed } = await setUp(t, { pool: { max: 2 } })
  await postgres.query('CREATE TABLE valued (id uuid)')
  const text = 'SELECT * FROM valued WHERE id = $1'
  const good = '00000000-0000-4000-8000-000000000000'
  const two = () => Promise.all([first(db, text, [good]), first(db, text, [good])])
  const other = 'SELECT $1::int AS other_of_valued'
  await often(two)
  await often(() => Promise.all([first(db, other, [1]), first(db, other, [1])]))
  const others = parsed(other)
  for (let i = 0; i < 5; i++) {
    for (const run of [single, first, later]) {
      const error = await run(db, text, ['no uuid']).then(() => ({}), (error) => error)
      t.same([error.code, error.statusCode], ['22P02', undefined])
    }
    await two()
  }
  const before = parsed(text)
  for (let i = 0; i < 5; i++) await two()
  await often(() => Promise.all([first(db, other, [1]), first(db, other, [1])]))
  t.equal(parsed(other), others, 'what had nothing to do with it was not prepared anew')
  t.ok(parsed(text) <= before + 2, 'and the statement itself is prepared again')
})

known.test('names of users never meet those of the plugin', async t => {
  const { db } = await setUp(t)
  await often(() => db.query('SELECT 1 AS often_used'))
  for (const name of ['scope_1', 'scope_2', 'scope_0']) t.same((await db.query({ name, text: 'SELECT 1 AS a' })).rows, [{ a: 1 }])
})

onlyDirect(t, 'PREPARE is refused there').test('a name that the connection has already is no reason to fail', async t => {
  const { db } = await setUp(t)
  for (const [name, run] of [['one', single], ['two', first]] as const) {
    await db.query(`PREPARE ${name} AS SELECT 'another'`)
    t.same((await run(db, { name, text: 'SELECT 1 AS a' } as unknown as string, undefined as unknown as [])).rows, [{ a: 1 }])
  }
})

onlyQueue(known, 'a connection prepares for the statements after it').test('prepare: false keeps one statement from being prepared', async t => {
  const { db, parsed } = await setUp(t)
  const text = 'SELECT $1::int AS never_prepared'
  for (let i = 0; i < 10; i++) {
    t.equal(
      (await db.query({ text, values: [i], prepare: false })).rows[0].never_prepared, i
    )
  }
  t.equal(parsed(text), 10)
  await often(() => db.query({ text, values: [1], prepare: true }))
  t.equal(parsed(text), 11)
  await t.rejects(db.query({ text, prepare: 'no' as never }), { code: 'FST_PG_SCOPE_QUERY_INVALID' })
  await t.rejects(db.query({ text, name: 'a', prepare: false }), { code: 'FST_PG_SCOPE_QUERY_INVALID' })
})

known.test('under another role a statement means what it means for that role, wherever it was set', async t => {
  await postgres.query(`
    CREATE ROLE guest; GRANT guest TO CURRENT_USER; CREATE SCHEMA guest AUTHORIZATION guest; CREATE TABLE guest.rooms (a text); INSERT INTO guest.rooms VALUES ('guest');
    CREATE TABLE rooms (a int, b int); INSERT INTO rooms VALUES (1, 2); GRANT ALL ON ALL TABLES IN SCHEMA guest, public TO guest`)
  const { db } = await setUp(t)
  const text = 'SELECT * FROM rooms'
  const asGuest = [
    () => db.scope((session) => session.query(text), { role: 'guest' }),
    () => db.scope((session) => session.query(text), { role: 'guest', mode: 'autocommit' }),
    ...['SET LOCAL ROLE guest', 'SET LOCAL SCHEMA \'guest\'', 'SELECT set_config(\'role\', \'guest\', true)', 'SET LOCAL SESSION AUTHORIZATION guest'].map((set) => () => db.scope(async (session) => {
      await session.query(set)
      return await session.query(text)
    }))
  ]
  for (let i = 0; i < 8; i++) {
    t.same((await db.query(text)).rows, [{ a: 1, b: 2 }])
    t.same((await later(db, text, [])).rows, [{ a: 1, b: 2 }])
    for (const run of asGuest) t.same((await run()).rows, [{ a: 'guest' }])
  }
})

known.test('in a transaction that makes a temporary table, a statement means that table, however it was made', async t => {
  await postgres.query(`
    CREATE TABLE shadowed (a int); INSERT INTO shadowed VALUES (0);
    CREATE FUNCTION make_shadow() RETURNS void LANGUAGE sql AS 'CREATE TEMP TABLE shadowed ON COMMIT DROP AS SELECT 1 AS a';
    CREATE PROCEDURE make_shadow_too() LANGUAGE plpgsql AS $$ BEGIN CREATE TEMP TABLE shadowed ON COMMIT DROP AS SELECT 1 AS a; END $$`)
  const { db } = await setUp(t)
  const text = 'SELECT a FROM shadowed'
  const write = 'INSERT INTO shadowed VALUES ($1)'
  const ways = [
    'CREATE TEMP TABLE shadowed ON COMMIT DROP AS SELECT 1 AS a', 'CREATE TEMPORARY TABLE shadowed (a) ON COMMIT DROP AS VALUES (1)',
    'DO $$ BEGIN CREATE TEMP TABLE shadowed ON COMMIT DROP AS SELECT 1 AS a; END $$', 'SELECT make_shadow()', 'CALL make_shadow_too()'
  ]
  for (let i = 0; i < 8; i++) {
    t.equal((await db.query(text)).rows[0].a, 0)
    for (const way of ways) {
      const rows = await db.scope(async (session: Session) => {
        await session.query(text)
        await session.query(way)
        await session.query(write, [2])
        return (await session.query(text)).rows
      })
      t.same(rows, [{ a: 1 }, { a: 2 }], way)
    }
  }
  t.equal((await postgres.query('SELECT FROM shadowed')).rowCount, 1, 'nothing was written to the permanent one')
})

known.test('literals that mean a moment are never frozen', async t => {
  const { db } = await setUp(t)
  for (const literal of ['\'now\'::timestamptz', '(\'{now}\'::timestamptz[])[1]', '$$now$$::timestamptz', 'E\'\\nnow\'::timestamptz', 'E\'n\\x6fw\'::timestamptz', 'U&\'n\\006fw\'::timestamptz', 'lower(\'[now,infinity)\'::tstzrange)']) {
    const text = `SELECT ${literal} = transaction_timestamp() AS now`
    for (let i = 0; i < 8; i++) t.equal((await db.query(text)).rows[0].now, true, literal)
  }
})

known.test('a table and a sequence that are dropped and made again are the new ones', async t => {
  const { db } = await setUp(t)
  const create = 'CREATE TABLE remade (a int DEFAULT 7); CREATE SEQUENCE remade_ids'
  await postgres.query(create)
  const texts = ['SELECT nextval(\'remade_ids\')::int AS n', 'SELECT \'remade\'::regclass::oid = (SELECT oid FROM pg_class WHERE relname = \'remade\') AS n', 'SELECT count(*)::int AS n FROM remade']
  for (const run of [single, first, later]) {
    for (const text of texts) await often(() => run(db, text, []))
    await postgres.query(`DROP TABLE remade; DROP SEQUENCE remade_ids; ${create}`)
    t.same(await Promise.all(texts.map(async (text) => (await run(db, text, [])).rows[0].n)), [1, true, 0])
  }
})

/** What a text means when it is parsed now, on the same connection. */
const unprepared = async (session: Pick<Session, 'query'>, text: string) => (await session.query({ text, prepare: false })).rows

onlyDirect(t, 'temporary tables that outlive their transaction are refused there').test('on a connection that has had temporary tables, a statement means the table that it would mean unprepared', async t => {
  await postgres.query(`
    CREATE TABLE hidden (a int); INSERT INTO hidden VALUES (0); CREATE TABLE hidden_too (a int); INSERT INTO hidden_too VALUES (0);
    CREATE FUNCTION hide() RETURNS void LANGUAGE sql AS 'CREATE TEMP TABLE hidden AS SELECT 1 AS a'`)
  const { db } = await setUp(t)
  const texts = ['SELECT a FROM hidden', 'SELECT a FROM hidden_too']
  const check = async (session: Pick<Session, 'query'>, what: string) => { for (const text of texts) t.same((await session.query(text)).rows, await unprepared(session, text), `${what}: ${text}`) }
  for (let i = 0; i < 8; i++) await check(db, 'before')
  for (let round = 0; round < 3; round++) {
    for (const way of ['CREATE TEMP TABLE hidden AS SELECT 1 AS a', 'SELECT hide()', 'DO $$ BEGIN PERFORM hide(); END $$', 'SELECT 1 AS a INTO TEMP hidden', 'CREATE TABLE pg_temp.hidden AS SELECT 1 AS a']) {
      await db.scope(async (session) => {
        await check(session, 'in front of it')
        await session.query(way)
        await check(session, way)
        await session.query('CREATE TEMP TABLE IF NOT EXISTS hidden_too AS SELECT 2 AS a')
        await check(session, 'and another one')
      })
      await check(db, `after ${way}, by itself`)
      await db.scope(async (session) => {
        await check(session, `after ${way}, in a transaction`)
        await session.query('DROP TABLE IF EXISTS pg_temp.hidden')
        await check(session, 'dropped')
      })
      await check(db, 'dropped')
    }
  }
})

known.test('with several schemas in search_path, a table that is created in an earlier one is the one that is meant', async t => {
  const connectionString = await postgres.createDatabase()
  const admin = (text: string) => postgres.query(text, undefined, connectionString)
  await admin(`
    DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = one, two', current_database()); END $$;
    CREATE SCHEMA one; CREATE SCHEMA two; CREATE TABLE two.things (a int); INSERT INTO two.things VALUES (2)`)
  for (const startupCheck of [true, false]) {
    const { db } = await setUp(t, { connectionString, startupCheck })
    const text = 'SELECT a FROM things'
    for (const run of [single, first, later]) {
      await often(async () => t.same((await run(db, text, [])).rows, [{ a: 2 }]))
      await admin('CREATE TABLE one.things (a int); INSERT INTO one.things VALUES (1)')
      for (let i = 0; i < 3; i++) t.same((await run(db, text, [])).rows, [{ a: 1 }])
      await admin('DROP TABLE one.things')
    }
  }
})

onlyDirect(onlyQueue(t, 'a kept connection'), 'the pooler is not known').test('without the startup check too, what is used often is prepared', async t => {
  const { db, parsed } = await setUp(t, { startupCheck: false, pooler: 'none' })
  for (const [i, run] of [single, first, later].entries()) {
    const text = `SELECT $1::int AS without_check_${i}`
    for (let a = 0; a < 20; a++) await run(db, text, [a])
    t.ok(parsed(text) < 10, `parsed ${parsed(text)} times`)
  }
})

onlyDirect(onlyQueue(t, 'a kept connection'), 'it is refused there').test('after a SET for the session, literals are read as they would be unprepared', async t => {
  await postgres.query('CREATE TABLE moments (at timestamptz); INSERT INTO moments VALUES (\'2023-12-31 20:00Z\')')
  const { db } = await setUp(t)
  const text = 'SELECT count(*)::int AS count FROM moments WHERE at >= \'2024-01-01\''
  const zones = ['SET TIME ZONE \'Asia/Tokyo\'', 'SELECT set_config(\'TimeZone\', \'UTC\', false)', 'SET TimeZone = \'Asia/Tokyo\'', 'RESET TimeZone']
  for (const mode of ['transaction', 'autocommit'] as const) {
    for (const zone of zones) {
      await db.scope(async (session) => {
        for (let i = 0; i < 8; i++) t.same((await session.query(text)).rows, await unprepared(session, text))
        await session.query(zone)
        for (let i = 0; i < 8; i++) t.same((await session.query(text)).rows, await unprepared(session, text), zone)
      }, { mode })
    }
  }
})

onlyDirect(onlyQueue(known, 'a kept connection'), 'what is prepared there is PgBouncer\'s').test('a function of the application\'s own costs the statements of later transactions nothing', async t => {
  await postgres.query('CREATE FUNCTION own(a int) RETURNS int LANGUAGE sql AS \'SELECT a + 1\'')
  const { db, parsed } = await setUp(t)
  const text = 'SELECT $1::int AS beside_own'
  for (let i = 0; i < 20; i++) {
    await db.scope(async (session) => {
      await session.query('SELECT 1 AS before')
      await session.query(text, [i])
      t.same((await session.query('SELECT own($1) AS own', [i])).rows, [{ own: i + 1 }])
    })
  }
  t.ok(parsed(text) < 10, `parsed ${parsed(text)} times`)
})
