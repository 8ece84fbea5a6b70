// What is used often is prepared without being asked for.
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import pgScope, { type PgScopeOptions, type Session } from '../../../lib/index.ts'
import { startPgProxy } from '../../../harness/pg-proxy.ts'
import { eachPgBouncer, startPgBouncer } from '../../../harness/pgbouncer.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { onlyAnnounced, onlyDirect, through } from '../../../harness/variant.ts'

const postgres = await startTestPostgres(t)

async function setUp (t: Test, options: PgScopeOptions = {}) {
  const proxy = await startPgProxy(t, postgres)
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(pgScope, {
    connectionString: proxy.connectionString(postgres.connectionString), ...options, pool: { max: 1, ...options.pool }
  })
  const parsed = (text: string): number => proxy.statements.filter((statement) => statement.trim() === text).length
  /** What the one connection has prepared. */
  const prepared = (): Promise<string[]> => app.db.scope(async (session) => (await session.query('SELECT statement FROM pg_prepared_statements ORDER BY 1', [])).rows.map(({ statement }) => statement))
  return { proxy, db: app.db, parsed, prepared }
}

const known = onlyAnnounced(t, 'nothing is prepared by itself')
const direct = onlyDirect(t, 'what is prepared is seen in its session')

let columns = 0
/** A text of its own for each test: how often a text was used is remembered for the whole process. */
const newText = (): string => `SELECT $1::int AS a, 'text' AS column_${++columns}`

known.test('a text that is used often is neither parsed nor described any more, and its results are the same', async t => {
  const { proxy, db, parsed } = await setUp(t)
  const text = newText()
  const [first, ...others] = await db.scope(async (session) => {
    const results = []
    for (let a = 0; a < 20; a++) results.push(await session.query(text, [a]))
    return results
  })
  t.equal(parsed(text), 6)
  t.equal(proxy.describes, through === 'direct' ? 6 : 20, 'behind a PgBouncer it is described, for a server may have seen a migration')
  for (const [i, result] of others.entries()) {
    t.same(result.rows, [{ a: i + 1, [`column_${columns}`]: 'text' }])
    t.same(result.fields, first!.fields)
    t.same({ ...result, rows: [] }, { ...first, rows: [] })
  }
  proxy.reset()
  t.same((await db.query({ text, values: [7], rowMode: 'array' })).rows, [[7, 'text']], 'also as arrays, and by itself')
  t.same((await db.query({ text, values: [7], types: { getTypeParser: () => String as never } })).rows, [{ a: '7', [`column_${columns}`]: 'text' }], 'and with other types')
  t.equal(parsed(text), 0)
})

known.test('a statement without rows, one that fails and one that is called several times at once are prepared as well', async t => {
  const { db, parsed } = await setUp(t)
  await db.query('CREATE TABLE things (id int PRIMARY KEY)')
  const text = 'INSERT INTO things VALUES ($1)'
  for (let i = 0; i < 10; i++) t.equal((await db.query(text, [i])).rowCount, 1)
  t.equal(parsed(text), 6)
  for (let i = 0; i < 3; i++) await t.rejects(db.query(text, [1]), { code: '23505' })
  t.equal((await db.query(text, [10])).rowCount, 1)
  t.equal(parsed(text), 6)
  const several = newText()
  const results = await db.scope(
    (session) => Promise.all(Array.from({ length: 20 }, (_, a) => session.query(several, [a])))
  )
  t.same(results.map(({ rows }) => rows[0].a), Array.from({ length: 20 }, (_, a) => a))
})

known.test('BEGIN and settings are prepared with the first transaction', async t => {
  const { proxy, db } = await setUp(t, { settings: { 'app.tenant': 'a' } })
  for (let i = 0; i < 3; i++) t.same((await db.scope((session) => session.query('SELECT current_setting(\'app.tenant\') AS tenant'))).rows, [{ tenant: 'a' }])
  t.equal(proxy.statements.filter((text) => text === 'BEGIN').length, 1)
  t.equal(proxy.statements.filter((text) => text.startsWith('SELECT set_config')).length, 1)
})

direct.test('preparedStatements bounds how many there are, and the least recently used make way', async t => {
  const { db, prepared, parsed } = await setUp(t, { preparedStatements: 3 })
  const texts = [newText(), newText(), newText(), newText()]
  for (let i = 0; i < 10; i++) for (const text of texts) t.same((await db.query(text, [i])).rows[0].a, i)
  t.same((await prepared()).length, 3)
  const before = parsed(texts[3]!)
  for (let i = 0; i < 10; i++) await db.query(texts[3]!, [i])
  t.equal(parsed(texts[3]!), before, 'what is used stays')
})

for (const [preparedStatements, names] of [[0, 1], [false, 0]] as const) {
  direct.test(`preparedStatements: ${preparedStatements} prepares nothing by itself${names === 1 ? ', but what has a name' : ', nor what has a name'}`, async t => {
    const { db, prepared } = await setUp(t, { preparedStatements })
    const text = newText()
    for (let i = 0; i < 20; i++) await db.query(text, [i])
    await db.query({ name: 'mine', text, values: [1] })
    t.equal((await prepared()).length, names)
  })
}

known.test('with another search_path a statement means another table, wherever it was set', async t => {
  const { db } = await setUp(t)
  await db.scope(async (session) => {
    for (const [schema, type] of [['one', 'int'], ['two', 'text']]) await session.query(`CREATE SCHEMA ${schema}; CREATE TABLE ${schema}.tenants (a ${type}, b text); INSERT INTO ${schema}.tenants VALUES (1, '${schema}')`)
  })
  const text = 'SELECT * FROM tenants'
  for (let i = 0; i < 10; i++) {
    for (const [schema, row] of [['one', { a: 1, b: 'one' }], ['two', { a: '1', b: 'two' }]] as const) {
      const second = async (session: Session) => {
        await session.query('SELECT 1')
        return await session.query(text)
      }
      t.same((await db.scope(second, { settings: { search_path: schema } })).rows, [row])
      t.same((await db.scope((session) => session.query(text), { settings: { SEARCH_PATH: schema }, mode: 'autocommit' })).rows, [row])
      const result = await db.scope(async (session) => {
        await session.query(`SET LOCAL search_path = ${schema}`)
        return await session.query(text)
      })
      t.same(result.rows, [row])
    }
  }
})

known.test('a table that is altered costs no request, where its statement is the first: every connection prepares anew', async t => {
  const { db } = await setUp(t, { pool: { max: 3 } })
  await db.query('CREATE TABLE growing (a int); INSERT INTO growing VALUES (1)')
  const texts = ['SELECT * FROM growing', 'SELECT growing.* FROM growing']
  const all = (): Promise<number[]> => Promise.all(Array.from({ length: 9 }, (_, i) => db.scope(async (session) => {
    const { fields, rows } = await session.query(texts[i % 2]!)
    await session.query('SELECT pg_sleep(0.005)')
    return fields.length === Object.keys(rows[0]).length ? fields.length : -1
  })))
  for (let i = 0; i < 5; i++) await all()
  for (const count of [2, 3, 4]) {
    await postgres.query(`ALTER TABLE growing ADD COLUMN c${count} int`)
    t.same(await all(), Array(9).fill(count))
  }
})

known.test('a table that is altered fails at most one request where its statement comes later, which may be sent again', async t => {
  const { db } = await setUp(t, { pool: { max: 3 } })
  await db.query('CREATE TABLE later (a int); INSERT INTO later VALUES (1)')
  /** On each of the three connections, one after the other: all of them are held at a time. */
  const requests = async (): Promise<unknown[]> => {
    const sessions = [db.session(), db.session(), db.session()]
    await Promise.all(sessions.map((session) => session.query('SELECT 1 AS first')))
    const answers: unknown[] = []
    for (const session of sessions) answers.push(await session.query('SELECT * FROM later').then(({ fields }) => fields.length, ({ code, statusCode }) => [code, statusCode]))
    await Promise.all(sessions.map((session) => session.close()))
    return answers
  }
  for (let i = 0; i < 10; i++) t.same(await requests(), [1, 1, 1])
  await postgres.query('ALTER TABLE later ADD COLUMN b int')
  t.same(await requests(), [['0A000', 503], 2, 2])
  for (let i = 0; i < 10; i++) t.same(await requests(), [2, 2, 2])
})

direct.test('what means something else each time is not prepared: moments, literals in another time zone, FETCH', async t => {
  const { db, prepared } = await setUp(t)
  const often = async (read: () => Promise<unknown>): Promise<void> => { for (let i = 0; i < 10; i++) await read() }
  const now = () => db.query('SELECT \'now\'::timestamptz AS at')
  await often(now)
  const before = (await now()).rows[0].at
  await db.query('SELECT pg_sleep(0.01)')
  t.not((await now()).rows[0].at.getTime(), before.getTime())

  await db.query('CREATE TABLE events (at timestamptz); INSERT INTO events VALUES (\'2023-12-31 20:00Z\')')
  const since = (timezone: string) => db.scope(async (session) => (await session.query('SELECT 1 FROM events WHERE at >= \'2024-01-01\'')).rowCount, { settings: { timezone } })
  await often(() => since('UTC'))
  t.equal(await since('UTC'), 0)
  t.equal(await since('Asia/Tokyo'), 1, 'there it is the first of January already')
  t.equal(await db.scope(async (session) => {
    await session.query('SET LOCAL TIME ZONE \'Asia/Tokyo\'')
    return (await session.query('SELECT 1 FROM events WHERE at >= \'2024-01-01\'')).rowCount
  }), 1)

  const fetch = (select: string, name?: string) => db.scope(async (session) => {
    await session.query(`DECLARE rows_of CURSOR FOR ${select}`)
    return (await session.query({ text: 'FETCH 10 FROM rows_of', ...(name && { name }) })).rows
  })
  for (const name of [undefined, 'mine']) {
    await often(() => fetch('SELECT 1 AS a', name))
    t.same(await fetch('SELECT 2 AS b', name), [{ b: 2 }])
    t.same(await fetch('SELECT \'x\' AS a', name), [{ a: 'x' }])
    t.same(await fetch('SELECT 2 AS b, 3 AS c', name), [{ b: 2, c: 3 }])
  }
  t.notOk((await prepared()).some((text) => /now/.test(text)))
})

direct.test('after ALTER COLUMN TYPE a value that fits now is refused once at most', async t => {
  const { db } = await setUp(t)
  await db.query('CREATE TABLE altered (id int)')
  const text = 'INSERT INTO altered VALUES ($1)'
  for (let i = 0; i < 10; i++) await db.query(text, [i])
  for (const [type, value] of [['bigint', '3000000000'], ['text', 'abc']]) {
    await db.query(`ALTER TABLE altered ALTER COLUMN id TYPE ${type}`)
    await db.query(text, [value]).catch(() => {})
    t.equal((await db.query(text, [value])).rowCount, 1)
  }
})

direct.test('what was deallocated behind the plugin\'s back is prepared again, and no first batch fails', async t => {
  const { db } = await setUp(t)
  const text = newText()
  for (const read of [
    (i: number) => db.query(text, [i]), (i: number) => db.scope((session) => session.query(text, [i]))
  ]) {
    for (let i = 0; i < 10; i++) await read(i)
    await db.query('DO $$ BEGIN EXECUTE \'DEALLOCATE ALL\'; END $$')
    for (let i = 0; i < 3; i++) t.equal((await read(i)).rows[0].a, i)
  }
})

direct.test('an empty text does not keep others from being prepared', async t => {
  const { db, prepared } = await setUp(t, { preparedStatements: 2 })
  const texts = [newText(), newText(), newText()]
  for (let i = 0; i < 10; i++) await db.query({ text: '-- nothing', name: 'nothing' })
  for (const text of texts) for (let i = 0; i < 10; i++) await db.query(text, [i])
  t.equal((await prepared()).filter((text) => texts.includes(text)).length, 1, 'beside BEGIN')
})

direct.test('DEALLOCATE ALL and DISCARD ALL are followed', async t => {
  const { db } = await setUp(t)
  const text = newText()
  for (let i = 0; i < 10; i++) await db.query(text, [i])
  for (const forget of ['DEALLOCATE ALL', 'DISCARD ALL']) {
    await db.query(forget)
    for (let i = 0; i < 3; i++) t.equal((await db.query(text, [i])).rows[0].a, i)
  }
})

t.test('behind each PgBouncer what is used often works on every server connection, prepared where that is followed', async t => {
  await eachPgBouncer(t, async (t, program) => {
    const pgbouncer = await startPgBouncer(t, postgres, { program, settings: { default_pool_size: 3 } })
    const front = await startPgProxy(t, pgbouncer)
    const { db } = await setUp(t, {
      connectionString: front.connectionString(pgbouncer.connectionString), pool: { max: 6 }
    })
    const texts = Array.from({ length: 4 }, newText)
    for (let i = 0; i < 30; i++) {
      const results = await Promise.all(texts.flatMap((text) => [db.query(text, [i]), db.scope(async (session) => {
        await session.query('SELECT pg_sleep(0.001)')
        return await session.query(text, [i])
      })]))
      t.same(results.map(({ rows }) => rows[0].a), Array(8).fill(i))
    }
    const parsed = (): number => front.statements.filter((text) => texts.includes(text)).length
    const before = parsed()
    await pgbouncer.reconnect()
    for (const text of texts) t.equal((await db.query(text, [1])).rows[0].a, 1)
    if (program.version.startsWith('1.18.')) t.equal(before, 240)
    else {
      t.ok(before < 4 * (5 + 6 * 2), `parsed ${before} times for 240`)
      t.equal(parsed(), before, 'PgBouncer itself prepares them on its new connections')
    }
  })
})
