import t from 'tap'
import Fastify from 'fastify'
import pg from 'pg'
import pgScope from '../../../harness/plugin.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import type { StatementConfig } from '../../../types/query.ts'

const postgres = await startTestPostgres(t)
const { connectionString } = postgres
const app = Fastify()
await app.register(pgScope, { connectionString })
t.teardown(() => app.close())

const client = new pg.Client({ connectionString })
await client.connect()
t.teardown(() => client.end())

await postgres.query('CREATE TABLE things (id int GENERATED ALWAYS AS IDENTITY, name text, at timestamptz, tags text[], data jsonb, bytes bytea)')

const dates = { getTypeParser: (oid: number, format?: string) => oid === 1082 ? (value: string) => `date ${value}` : pg.types.getTypeParser(oid, format as 'text') }

const statements: Record<string, [string | StatementConfig, unknown[]?]> = {
  'rows as objects': ['SELECT 1 AS a, \'x\' AS b, NULL AS c, now()::date AS d, 1.5::float8 AS e, 10::bigint AS f'],
  'a statement with parameters': ['SELECT $1::int AS a, $2::text AS b, $3::jsonb AS c, $4::bytea AS d, $5::text[] AS e', [1, 'x', { a: [1] }, Buffer.from('x'), ['a', null]]],
  'an object with values': [{ text: 'SELECT $1::int AS a', values: [7] }],
  'rows as arrays': [{ text: 'SELECT 1 AS a, 2 AS a, 3 AS b', rowMode: 'array' }],
  'two columns of one name': ['SELECT 1 AS a, 2 AS a'],
  'no rows': ['SELECT * FROM things WHERE false'],
  'a row without columns': ['SELECT'],
  'type parsers of its own': [{ text: 'SELECT date \'2020-02-02\' AS d, 1 AS a', types: dates as never }],
  'several statements in one text': ['SELECT 1 AS a; SELECT 2 AS b, 3 AS c; SELECT 4 AS d WHERE false'],
  'several statements, rows as arrays': [{ text: 'SELECT 1 AS a; SELECT 2 AS b', rowMode: 'array' }],
  'a semicolon in a string': ['SELECT \'a;b\' AS a'],
  'a semicolon at the end': ['SELECT 1 AS a;'],
  'an empty text': [''],
  'a text that is a comment': ['-- nothing here'],
  'INSERT … RETURNING': ['INSERT INTO things (name, tags) VALUES ($1, $2) RETURNING name, tags', ['x', ['a']]],
  'an UPDATE of nothing': ['UPDATE things SET name = name WHERE false'],
  'a DELETE': ['DELETE FROM things WHERE id < 0'],
  'a statement without rows': ['SET LOCAL work_mem = \'1MB\''],
  SHOW: ['SHOW standard_conforming_strings'],
  EXPLAIN: ['EXPLAIN (COSTS off) SELECT 1']
}

for (const [name, [text, values]] of Object.entries(statements)) {
  t.test(`${name}: the result is the one that pg gives`, async t => {
    const expected = await client.query(text as string, values)
    await app.db.scope(async (session) => {
      t.same(plain(await session.query(text as string, values)), plain(expected), 'in the first batch')
      t.same(plain(await session.query(text as string, values)), plain(expected), 'in an open transaction')
    })
    t.same(plain(await app.db.query(text as string, values)), plain(expected), 'by itself')
  })
}

t.test('a result is a pg.Result, and an error a pg.DatabaseError with SQLSTATE and the caller\'s stack', async t => {
  t.type(await app.db.query('SELECT 1'), (pg as unknown as { Result: new () => unknown }).Result)
  await app.db.scope(async function theCaller (session) {
    try {
      await session.query('SELECT no_such_column')
      t.fail('it was answered')
    } catch (error) {
      t.type(error, pg.DatabaseError)
      t.match(error, { code: '42703', position: '8', message: /no_such_column/, stack: /theCaller/ })
    }
    await session.rollback()
  })
})

t.test('an error leads to the same fields as pg\'s', async t => {
  const fields = (error: pg.DatabaseError) => ({
    ...error, message: error.message, name: error.name, file: null, line: null
  })
  const expected = await client.query('SELECT 1/0').catch(fields)
  t.same(await app.db.query('SELECT 1/0').catch(fields), expected)
  t.same(await app.db.scope((session) => session.query('SELECT 1/0')).catch(fields), expected)
})

t.test('the engine\'s own type parsers hold for every result', async t => {
  const app = Fastify()
  await app.register(pgScope, { connectionString, types: dates as never })
  t.teardown(() => app.close())
  t.same((await app.db.query('SELECT date \'2020-02-02\' AS d')).rows, [{ d: 'date 2020-02-02' }])
})

t.test('a type parser that throws rejects its own statement, and transaction(fn) contains it', async t => {
  const types = { getTypeParser: () => () => { throw new Error('the parser is broken') } }
  await app.db.scope(async (session) => {
    await t.rejects(session.transaction((inner) => inner.query({ text: 'SELECT 1 AS a UNION SELECT 2', types: types as never })), { message: 'the parser is broken' })
    t.same((await session.query('SELECT 3 AS a')).rows, [{ a: 3 }])
  })
})

t.test('the call reads values when it is made, whatever becomes of them afterwards', async t => {
  await app.db.scope(async (session) => {
    const values = [1]
    const answer = session.query('SELECT $1::int AS a', values)
    values[0] = 2
    t.same((await answer).rows, [{ a: 1 }])
  })
})

t.test('bad input is refused at once, opens nothing, and fails the session', async t => {
  const session = app.db.session()
  for (const [text, values] of [[undefined], [{}], ['SELECT $1', 1], ['SELECT \0']] as [never, never][]) {
    await t.rejects(session.query(text, values), { code: 'FST_PG_SCOPE_QUERY_INVALID' })
    await t.rejects(app.db.query(text, values), { code: 'FST_PG_SCOPE_QUERY_INVALID' })
  }
  t.equal(session.state, 'failed')
  t.equal(app.db.stats().inUse, 0)
  await session.rollback()
  await session.query('SELECT 1')
  await t.rejects(session.query('COMMIT'), { code: 'FST_PG_SCOPE_TRANSACTION_CONTROL' })
  t.equal(session.state, 'failed')
  await session.close()
})

t.test('a COMMIT hidden behind another statement is noticed, and the session trusts nothing any more', async t => {
  const session = app.db.session()
  await session.query('SELECT 1; COMMIT').catch(() => {})
  t.equal(session.state, 'failed')
  await t.rejects(session.query('SELECT 1'), { code: 'FST_PG_SCOPE_TRANSACTION_CONTROL' })
  await t.rejects(session.commit(), { code: 'FST_PG_SCOPE_TRANSACTION_CONTROL' })
  await session.close()
  t.equal(app.db.stats().inUse, 0)
})

t.test('COPY FROM STDIN is refused, and the error names lease()', async t => {
  for (const text of ['COPY things (name) FROM STDIN', 'SELECT 1; COPY things (name) FROM STDIN']) {
    await t.rejects(app.db.scope((session) => session.query(text)), { message: /app\.db\.lease/ }, text)
    await t.rejects(app.db.query(text), { message: /app\.db\.lease/ }, text)
    await t.rejects(app.db.scope(async (session) => {
      await session.query('SELECT 1')
      await session.query(text)
    }), { message: /app\.db\.lease/ }, text)
  }
  t.same((await app.db.query('SELECT 1 AS a')).rows, [{ a: 1 }], 'connections are usable')
  t.equal(app.db.stats().counters.destroyed, 0)
})

t.test('statements behind a COPY FROM STDIN, called without waiting for it, fail with the transaction, and the connection stays', async t => {
  const aborted = { status: 'rejected', reason: { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED', cause: { message: /app\.db\.lease/ } } }
  const { destroyed } = app.db.stats().counters
  for (const text of ['COPY things (name) FROM STDIN', '/* many */ copy things (name) FROM STDIN', 'SELECT 1; COPY things (name) FROM STDIN']) {
    for (const begun of [false, true]) {
      const session = app.db.session()
      if (begun) await session.query('SELECT 1')
      const [before, copy, ...behind] = await Promise.allSettled([session.query('SELECT 1 AS a'), session.query(text), session.query('SELECT 2'), session.query('SELECT $1::int', [3])])
      t.match(before, { status: 'fulfilled', value: { rows: [{ a: 1 }] } }, text)
      t.match(copy, { status: 'rejected', reason: { message: /app\.db\.lease/ } }, text)
      for (const result of behind) t.match(result, aborted, text)
      await session.rollback()
      t.same((await session.query('SELECT 4 AS a')).rows, [{ a: 4 }])
      await session.close()
    }
  }
  t.equal(app.db.stats().counters.destroyed, destroyed)
})

t.test('statements behind a COPY that the server does alone run, in their order', async t => {
  const session = app.db.session()
  for (let i = 0; i < 2; i++) {
    const results = await Promise.all([session.query('COPY (SELECT 1) TO PROGRAM \'cat > /dev/null\''), session.query('SELECT 1 AS a'), session.query('COPY (SELECT 1) TO PROGRAM \'cat > /dev/null\''), session.query('SELECT 2 AS a')])
    t.same(results.map(({ command, rows }) => [command, ...rows]), [['COPY'], ['SELECT', { a: 1 }], ['COPY'], ['SELECT', { a: 2 }]])
  }
  await session.close()
})

t.test('COPY TO STDOUT is refused too: its rows would be lost without a word', async t => {
  for (const text of ['COPY (SELECT generate_series(1, 3)) TO STDOUT', 'SELECT 1; COPY (SELECT 1) TO STDOUT']) {
    await t.rejects(app.db.scope((session) => session.query(text)), { code: 'FST_PG_SCOPE_QUERY_INVALID', details: /app\.db\.lease/ }, text)
    await t.rejects(app.db.query(text), { code: 'FST_PG_SCOPE_QUERY_INVALID', details: /app\.db\.lease/ }, text)
  }
})

t.test('statements that no transaction block takes run by themselves', async t => {
  await app.db.query('VACUUM things')
  await t.rejects(app.db.scope((session) => session.query('VACUUM things')), { code: '25001' })
})

/** What a user sees of a result; it also holds row builders of its own making. */
function plain (result: pg.QueryResult | pg.QueryResult[]): unknown {
  if (Array.isArray(result)) return result.map(plain)
  const { command, rowCount, oid, rows, fields } = result
  return { command, rowCount, oid, rows, fields: fields.map((field) => ({ ...field })) }
}
