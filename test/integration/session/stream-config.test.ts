import t from 'tap'
import Fastify from 'fastify'
import nearform from '@nearform/sql'
import sql from 'sql-template-tag'
import pg from 'pg'
import pgScope from '../../../harness/plugin.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'

const postgres = await startTestPostgres(t)
const app = Fastify()
await app.register(pgScope, { connectionString: postgres.connectionString, pool: { max: 2 } })
t.teardown(() => app.close())
const { db } = app

const text = 'SELECT n, n::text AS n FROM generate_series(1, $1::int) AS n'
const words: pg.CustomTypesConfig = { getTypeParser: () => (value: string) => `<${value}>` }

for (const mode of ['transaction', 'autocommit'] as const) {
  t.test(`stream() takes the config that query() takes, in mode ${mode}`, async t => {
    await db.scope(async (session) => {
      t.same(await session.stream({ text, values: [5], rowMode: 'array' }, { batchSize: 2 }).toArray(), [1, 2, 3, 4, 5].map((n) => [n, String(n)]))
      t.same(await session.stream({ text: 'SELECT $1::int AS a', values: [7], types: words }).toArray(), [{ a: '<7>' }])
      t.same(await session.stream({ text: 'SELECT $1::int AS a', values: [7], rowMode: 'array', types: words, prepare: false }).toArray(), [['<7>']])
      t.same(await session.stream({ text: 'SELECT 1 AS a' }).toArray(), [{ a: 1 }])
      t.same(await session.transaction((inner) => inner.stream({ text, values: [2], rowMode: 'array' }).toArray()), [[1, '1'], [2, '2']])
    }, { mode })
  })

  t.test(`stream() refuses what it does not do, in mode ${mode}`, async t => {
    const cases: [unknown[], RegExp][] = [
      [[{ text: 'SELECT 1', name: 'mine' }], /`name`/],
      [[{ text: 'SELECT 1', rows: 5 }], /unknown field `rows`/],
      [[{ text: 'SELECT 1', rowMode: 'object' }], /`rowMode`/],
      [[{ text: 'SELECT 1', submit () {} }], /submits itself/],
      [[{ text: 'SELECT 1' }, { rowMode: 'array' }], /unknown option `rowMode`.*statement/],
      [['SELECT 1', [], { highWaterMark: 5 }], /unknown option `highWaterMark`/],
      [['SELECT 1', [], 5], /options.*number/],
      [['SELECT 1', [], () => {}], /callbacks/],
      [['SELECT 1', { batchSize: 5 }], /`values` must be an array/],
      [[{ text: 'SELECT 1' }, { batchSize: 0 }], /`batchSize` must be an integer ≥ 1, got 0/],
      [[null, { batchSize: 5 }], /text must be a string/]
    ]
    for (const [args, details] of cases) {
      await t.rejects(db.scope(async (session) => {
        await (session.stream as (...args: unknown[]) => ReturnType<typeof session.stream>).apply(session, args)
          .toArray()
      }, { mode }), { code: 'FST_PG_SCOPE_QUERY_INVALID', details })
    }
  })
}

t.test('objects of sql-template-tag and @nearform/sql are statements, in query() and in stream()', async t => {
  for (const statement of [sql`SELECT ${7}::int AS a, ${'x'}::text AS b`, nearform`SELECT ${7}::int AS a, ${'x'}::text AS b`]) {
    t.same((await db.query(statement)).rows, [{ a: 7, b: 'x' }])
    await db.scope(async (session) => {
      t.same((await session.query(statement)).rows, [{ a: 7, b: 'x' }])
      t.same(await session.stream(statement, { batchSize: 1 }).toArray(), [{ a: 7, b: 'x' }])
      t.same((await session.transaction((inner) => inner.query(statement))).rows, [{ a: 7, b: 'x' }])
    })
  }
})
