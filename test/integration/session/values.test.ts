// Values that are hard to send: each is sent as it is, or refused before anything was sent.
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import pgScope from '../../../harness/plugin.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import type { Engine } from '../../../types/index.ts'

const postgres = await startTestPostgres(t)

async function setUp (t: Test): Promise<Engine> {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(pgScope, { connectionString: postgres.connectionString, pool: { max: 1 } })
  return app.db
}

t.test('more values than PostgreSQL takes are refused, and transaction(fn) contains it', async t => {
  const db = await setUp(t)
  const values = new Array(65536).fill(1)
  await t.rejects(db.query('SELECT 1', values), { code: 'FST_PG_SCOPE_QUERY_INVALID', details: /at most 65535 elements, got 65536/ })
  await db.scope(async (session) => {
    await session.query('SELECT 1')
    await t.rejects(session.transaction((inner) => inner.query('SELECT 1', values)), { code: 'FST_PG_SCOPE_QUERY_INVALID' })
    t.same((await session.query('SELECT 2 AS a')).rows, [{ a: 2 }])
  })
  t.match(db.stats(), { inUse: 0, counters: { destroyed: 0 } })
})

t.test('as many as it takes are sent', async t => {
  const db = await setUp(t)
  const values = Array.from({ length: 65535 }, (_, i) => i)
  const { rows } = await db.query(`SELECT sum(a)::int AS sum FROM unnest(ARRAY[${values.map((i) => `$${i + 1}::int`).join(',')}]) a`, values)
  t.same(rows, [{ sum: 65535 * 65534 / 2 }])
})

t.test('a hole in the values, undefined, and an object whose toJSON() returns nothing are NULL', async t => {
  const db = await setUp(t)
  const holes: unknown[] = []
  holes[1] = 1
  t.same((await db.query('SELECT $1::text AS a, $2::int AS b', holes)).rows, [{ a: null, b: 1 }])
  t.same((await db.query('SELECT $1::text AS a', [undefined])).rows, [{ a: null }])
  t.same((await db.query('SELECT $1::text AS a', [{ toJSON () {} }])).rows, [{ a: null }])
})

t.test('texts and bytes of all sizes around those of a buffer arrive as they are', async t => {
  const db = await setUp(t)
  for (const size of [0, 1, 8150, 8191, 8192, 16384, 21845, 65500, 65536, 70000, 300000]) {
    for (const letter of ['x', 'é', '€', '😀']) {
      const text = letter.repeat(size)
      const { rows: [row] } = await db.query('SELECT $1::text AS text, $2::bytea AS bytes', [text, Buffer.from(text)])
      t.ok(row.text === text && row.bytes.equals(Buffer.from(text)), `${size} of ${letter}`)
    }
  }
})

t.test('a getTypeParser that throws fails its own statement, also where the columns are known already', async t => {
  const db = await setUp(t)
  const types = { getTypeParser () { throw new Error('no such type') } }
  for (let i = 0; i < 8; i++) {
    await t.rejects(db.query({ text: 'SELECT 1 AS thrown', types }), { message: 'no such type' })
    t.same((await db.query('SELECT 1 AS thrown')).rows, [{ thrown: 1 }])
  }
})
