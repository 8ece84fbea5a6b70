import t from 'tap'
import Fastify from 'fastify'
import pgScope from '../../../harness/plugin.ts'
import { startPgProxy } from '../../../harness/pg-proxy.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { onlyPipelined } from '../../../harness/variant.ts'

const warnings: Error[] = []
process.on('warning', (warning) => warnings.push(warning))

const postgres = await startTestPostgres(t)
await postgres.query('CREATE TABLE notes (id int GENERATED ALWAYS AS IDENTITY, name text)')
const proxy = await startPgProxy(t, postgres)
const app = Fastify()
await app.register(pgScope, { connectionString: proxy.connectionString(postgres.connectionString) })
t.teardown(() => app.close())

const written = async () => (await postgres.query('SELECT name FROM notes ORDER BY id')).rows.map(({ name }) => name)
const insert = 'INSERT INTO notes (name) VALUES ($1)'

t.beforeEach(async () => {
  await postgres.query('TRUNCATE notes')
  proxy.reset()
})

t.test('statements run in the order in which they were called, and go in one round trip', async t => {
  const expected = Array.from({ length: 50 }, (_, i) => String(i))
  await app.db.scope((session) => Promise.all(expected.map((name) => session.query(insert, [name]))))
  t.same(await written(), expected)
  t.equal(proxy.roundTrips, 2, 'one, and COMMIT')
})

onlyPipelined(t, 'one batch at a time').test('in an open transaction as well', async t => {
  const expected = Array.from({ length: 50 }, (_, i) => String(i))
  await app.db.scope(async (session) => {
    await session.query('SELECT 1')
    proxy.reset()
    await Promise.all(expected.map((name) => session.query(insert, [name])))
    t.equal(proxy.roundTrips, 1)
  })
  t.same(await written(), expected)
})

t.test('texts of several statements keep their place among others', async t => {
  await app.db.scope((session) => Promise.all([
    session.query(insert, ['1']),
    session.query("INSERT INTO notes (name) VALUES ('2'); INSERT INTO notes (name) VALUES ('3')"),
    session.query(insert, ['4']),
    session.query("INSERT INTO notes (name) VALUES ('5;')"),
    session.query(insert, ['6'])
  ]))
  t.same(await written(), ['1', '2', '3', '4', '5;', '6'])
})

t.test('a text of several statements may be the first', async t => {
  await app.db.scope(async (session) => {
    const [several, one] = await Promise.all([session.query('SELECT 1 AS a; SELECT 2 AS b'), session.query('SELECT 3 AS c')]) as never as [{ rows: unknown[] }[], { rows: unknown[] }]
    t.same(several.map(({ rows }) => rows), [[{ a: 1 }], [{ b: 2 }]])
    t.same(one.rows, [{ c: 3 }])
  })
})

t.test('each answer reaches the request that asked for it', async t => {
  await app.db.scope(async (session) => {
    for (let round = 0; round < 2; round++) {
      const answers = await Promise.all(Array.from({ length: 30 }, (_, i) => session.query('SELECT $1::int AS a FROM generate_series(1, $1)', [i])))
      t.same(answers.map(({ rows }) => rows), Array.from({ length: 30 }, (_, i) => Array(i).fill({ a: i })))
    }
  })
})

for (const [place, open] of [['the first batch', false], ['an open transaction', true]] as const) {
  t.test(`one of many fails in ${place}: those before it succeed, those behind it never run and name it as their cause`, async t => {
    const session = app.db.session()
    if (open) await session.query('SELECT 1')
    const results = await Promise.allSettled([
      session.query(insert, ['1']), session.query(insert, ['2']), session.query('SELECT 1/0'), session.query(insert, ['3']), session.query('SELECT no_such_column')
    ])
    t.match(results, [
      { status: 'fulfilled' }, { status: 'fulfilled' },
      { status: 'rejected', reason: { code: '22012' } },
      { status: 'rejected', reason: { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED', cause: { code: '22012' } } },
      { status: 'rejected', reason: { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED', cause: { code: '22012' } } }
    ])
    await t.rejects(session.commit(), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED' })
    await session.close()
    t.same(await written(), [])
  })
}

t.test('two sessions do not wait for each other', async t => {
  await app.db.scope(async (one) => {
    let over = false
    const slow = one.query('SELECT pg_sleep(2)').then(() => { over = true })
    await app.db.scope((other) => other.query('SELECT 1'))
    t.equal(over, false)
    await slow
  })
})

t.test('large statements and answers cross each other without a deadlock', { timeout: 20000 }, async t => {
  const large = 'x'.repeat(1_000_000)
  await app.db.scope(async (session) => {
    await session.query('SELECT 1')
    const answers = await Promise.all(Array.from({ length: 20 }, () => session.query('SELECT $1::text AS a', [large])))
    t.ok(answers.every(({ rows }) => rows[0].a.length === large.length))
  })
})

t.test('pg has nothing to warn of', async t => {
  // On Node 26 the loader of the tests (harness/typescript) is deprecated.
  const others = /ExperimentalWarning|experimental|module\.register\(\)/
  t.same(warnings.map(({ message }) => message).filter((message) => !others.test(message)), [])
})
