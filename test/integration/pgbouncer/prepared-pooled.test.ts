import t, { type Test } from 'tap'
import { startApp } from './app.ts'
import { startPgProxy } from '../../../harness/pg-proxy.ts'
import { compareVersions, eachPgBouncer, startPgBouncer, type TestPgBouncer } from '../../../harness/pgbouncer.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import type { Engine, PgScopeOptions } from '../../../lib/index.ts'

const postgres = await startTestPostgres(t)

async function setUp (t: Test, pgbouncer: TestPgBouncer, options: PgScopeOptions = {}) {
  const proxy = await startPgProxy(t, pgbouncer)
  const started = await startApp(t, {
    connectionString: proxy.connectionString(pgbouncer.connectionString), pool: { max: 2 }, ...options
  })
  return {
    ...started, proxy, parsed: (text: string) => proxy.statements.filter((statement) => statement === text).length
  }
}

/** Before 1.26 PgBouncer does not say so by itself. */
function followed (version: string): PgScopeOptions {
  return compareVersions(version, '1.26') >= 0 ? {} : { preparedStatements: true }
}

/** Two at a time: each of them on a server connection of its own. Whoever comes next may have the other one. */
async function both (db: Engine, work: (db: Engine) => Promise<number>, times: number): Promise<Set<number>> {
  const backends = new Set<number>()
  for (let i = 0; i < times; i++) for (const backend of await Promise.all([work(db), work(db)])) backends.add(backend)
  return backends
}

const where = 'SELECT pg_backend_pid() AS pid, $1::int AS a'
/** A named statement, first in its transaction or behind others. */
const named = (t: Test, name: string) => async (db: Engine): Promise<number> => await db.scope(async (session) => {
  if (Math.random() < 0.5) await session.query('SELECT pg_sleep(0.001)')
  const { rows: [{ pid, a }] } = await session.query({ name, text: where, values: [7] })
  t.equal(a, 7)
  await session.query('SELECT pg_sleep(0.001)')
  return pid
})

t.test('where PgBouncer follows prepared statements', (t) => eachPgBouncer(t, async (t, program) => {
  if (compareVersions(program.version, '1.21') < 0) return t.pass('it does not')
  const pgbouncer = await startPgBouncer(t, postgres, { program, settings: { default_pool_size: 2 } })
  const options = followed(program.version)

  await t.test('a named statement works on every server connection, parsed once for each client', async (t) => {
    const { db, parsed } = await setUp(t, pgbouncer, options)
    t.equal((await both(db, named(t, 'one'), 20)).size, 2)
    t.equal(parsed(where), 2)
    t.ok((await db.query('SELECT FROM pg_prepared_statements WHERE statement = $1', [where])).rowCount, 'prepared on the server')
  })

  await t.test('more names than max_prepared_statements push each other out, and all of them work', async (t) => {
    await pgbouncer.set('max_prepared_statements', 3)
    const { db } = await setUp(t, pgbouncer, options)
    for (let round = 0; round < 3; round++) for (let i = 0; i < 8; i++) await both(db, named(t, `name ${i}`), 1)
    await pgbouncer.set('max_prepared_statements', 200)
  })

  await t.test('a name whose Parse failed is prepared anew: first in a transaction, later, and by itself', async (t) => {
    const { db, log } = await setUp(t, pgbouncer, options)
    for (const [i, run] of [
      (statement: object) => db.scope((session) => session.query(statement as { text: string })),
      (statement: object) => db.scope(async (session) => {
        await session.query('SELECT 1')
        return await session.query(statement as { text: string })
      }),
      (statement: object) => db.query(statement as { text: string })
    ].entries()) {
      const statement = { name: `failed ${i}`, text: `SELECT * FROM later_${i}` }
      for (let tries = 0; tries < 3; tries++) await t.rejects(run(statement), { code: '42P01' })
      await db.query(`CREATE TABLE later_${i} AS SELECT 1 AS a`)
      for (let tries = 0; tries < 3; tries++) t.same((await run(statement)).rows, [{ a: 1 }])
      await t.rejects(run({ ...statement, text: 'SELECT nonsense' }), { code: '42703' }, 'the name with another text')
      t.same((await run(statement)).rows, [{ a: 1 }])
    }
    t.equal(db.stats().counters.destroyed, 0, 'PgBouncer ended no connection')
    t.equal(log.length, 1)
  })

  await t.test('on a server connection that prepares a statement only after its table was altered, rows have the columns of then', async (t) => {
    await postgres.query('CREATE TABLE renamed (a int, b text); INSERT INTO renamed VALUES (1, \'two\')')
    const { db } = await setUp(t, pgbouncer, { ...options, pool: { max: 1 } })
    const other = await startApp(t, { connectionString: pgbouncer.connectionString, pool: { max: 1 } })
    await pgbouncer.reconnect()
    const where = 'SELECT pg_backend_pid() AS pid, renamed.* FROM renamed'
    const named = { name: 'renamed', text: 'SELECT * FROM renamed' }
    const backends = new Set<number>()
    for (let i = 0; i < 10; i++) {
      t.match((await db.query(named)).rows, [{ a: 1, b: 'two' }])
      backends.add((await db.query(where)).rows[0].pid)
    }
    t.equal(backends.size, 1)
    await postgres.query('ALTER TABLE renamed RENAME a TO c; ALTER TABLE renamed RENAME b TO a; ALTER TABLE renamed RENAME c TO b')
    await using held = other.db.session()
    t.ok(backends.has((await held.query('SELECT pg_backend_pid() AS pid')).rows[0].pid), 'somebody else has the server connection')
    const { rows: [row] } = await db.query(where)
    t.notOk(backends.has(row.pid))
    t.match(row, { b: 1, a: 'two' })
    t.same((await db.query(named)).rows, [{ b: 1, a: 'two' }])
  })
}))

t.test('where PgBouncer does not follow them, statements are sent without their names, and work on every server connection', (t) => eachPgBouncer(t, async (t, program) => {
  const knows = compareVersions(program.version, '1.21') >= 0
  const pgbouncer = await startPgBouncer(t, postgres, {
    program, settings: { default_pool_size: 2, ...(knows && { max_prepared_statements: 0 }) }
  })
  const { db, parsed } = await setUp(t, pgbouncer)
  t.match(db.pooler, { kind: 'pgbouncer', preparedStatements: false })
  t.equal((await both(db, named(t, 'one'), 20)).size, 2)
  t.equal(parsed(where), 40, 'parsed each time')
  for (let i = 0; i < 4; i++) t.equal((await db.query('SELECT FROM pg_prepared_statements WHERE statement = $1', [where])).rowCount, 0)
  t.equal(db.stats().counters.destroyed, 0)
}))

t.test('ALTER TABLE … ADD, where statements are prepared', async (t) => {
  await t.test('directly', (t) => alterations(t, postgres.connectionString, {}))
  await eachPgBouncer(t, async (t, program) => {
    if (compareVersions(program.version, '1.21') < 0) return t.pass('they are not')
    const { connectionString } = await startPgBouncer(t, postgres, { program, settings: { default_pool_size: 2 } })
    await alterations(t, connectionString, followed(program.version))
  })
})

async function alterations (t: Test, connectionString: string, options: PgScopeOptions): Promise<void> {
  const open = (t: Test, max = 2) => startApp(t, { connectionString, pool: { max }, ...options })

  await t.test('every request gets its answer, of new clients too, and after one migration more', async (t) => {
    await postgres.query('DROP TABLE IF EXISTS wide; CREATE TABLE wide (a0 int); INSERT INTO wide VALUES (0)')
    const statement = { name: 'wide', text: 'SELECT * FROM wide' }
    const first = await open(t)
    first.app.get('/', async (request) => (await request.db.query(statement)).rows[0])
    for (let column = 1; column <= 3; column++) {
      const before = (await first.app.inject('/')).json()
      t.equal(Object.keys(before).length, column)
      await both(first.db, async (db) => (await db.query(statement)).rowCount!, 3)
      await postgres.query(`ALTER TABLE wide ADD a${column} int`)
      const { db: newcomer } = await open(t)
      const expected = { ...before, [`a${column}`]: null }
      for (let i = 0; i < 4; i++) {
        t.same((await first.app.inject('/')).json(), expected, 'a request')
        t.same((await first.db.query(statement)).rows, [expected], 'a statement by itself')
        t.same((await newcomer.query(statement)).rows, [expected], 'of a new client')
        t.same((await newcomer.scope((session) => session.query(statement))).rows, [expected], 'in a transaction of a new client')
      }
    }
  })

  await t.test('a page of several statements about the same table gets its answer', async (t) => {
    await postgres.query('DROP TABLE IF EXISTS page; CREATE TABLE page (a int)')
    const { db } = await open(t, 1)
    const page = () => db.scope((session) => Promise.all(['a', 'b', 'c'].map((name) => session.query({ name, text: `SELECT *, '${name}' AS name FROM page` })))).then((results) => results.map(({ fields }) => fields.length))
    t.same(await page(), [2, 2, 2])
    for (let column = 1; column <= 2; column++) {
      await postgres.query(`ALTER TABLE page ADD a${column} int`)
      for (let i = 0; i < 3; i++) t.same(await page(), Array(3).fill(2 + column))
    }
  })

  await t.test('a statement behind others fails once, and no other connection of the process fails for it', async (t) => {
    await postgres.query('DROP TABLE IF EXISTS later; CREATE TABLE later (a int)')
    const { db } = await open(t)
    const statement = { name: 'later', text: 'SELECT * FROM later' }
    /** On both connections, one after the other. */
    const onBoth = async () => {
      const sessions = [db.session(), db.session()]
      await Promise.all(sessions.map((session) => session.query('SELECT 1')))
      const answers: (number | string)[] = []
      for (const session of sessions) {
        answers.push(
          await session.query(statement).then(({ fields }) => fields.length, ({ code }) => code)
        )
      }
      await Promise.all(sessions.map((session) => session.close()))
      return answers
    }
    t.same(await onBoth(), [1, 1])
    await postgres.query('ALTER TABLE later ADD b int')
    t.same(await onBoth(), ['0A000', 2])
    t.same(await onBoth(), [2, 2])
  })
}

t.test('directly, and in session mode, DEALLOCATE ALL and DISCARD ALL take no name away for good', async (t) => {
  const works = async (t: Test, connectionString: string, options: PgScopeOptions): Promise<void> => {
    const { db } = await startApp(t, { connectionString, pool: { max: 1 }, ...options })
    const statement = { name: 'one', text: 'SELECT 1 AS a FROM pg_prepared_statements WHERE name = \'one\'' }
    // What is used often is prepared by itself: BEGIN, and these as well.
    for (const text of Array(4).fill(['DEALLOCATE ALL', 'DISCARD ALL', 'DEALLOCATE one', 'DEALLOCATE PREPARE "one"']).flat()) {
      for (let i = 0; i < 2; i++) t.same((await db.query(statement)).rows, [{ a: 1 }], 'prepared under its name')
      await db.query(text)
      t.same((await db.query('SELECT name FROM pg_prepared_statements WHERE name = \'one\'')).rows, [], 'gone')
      t.same((await db.scope((session) => session.query(statement))).rows, [{ a: 1 }])
      if (text === 'DISCARD ALL') continue
      await db.scope(async (session) => {
        await session.query(statement)
        await session.query(text)
        t.same((await session.query(statement)).rows, [{ a: 1 }], 'in the same transaction')
      })
    }
  }
  await t.test('directly', (t) => works(t, postgres.connectionString, {}))
  await eachPgBouncer(t, async (t, program) => {
    const { connectionString } = await startPgBouncer(t, postgres, { program, poolMode: 'session' })
    await works(t, connectionString, { pooler: 'session' })
  })
})
