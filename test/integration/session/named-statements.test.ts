import t from 'tap'
import Fastify from 'fastify'
import pgScope from '../../../harness/plugin.ts'
import { startPgProxy } from '../../../harness/pg-proxy.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { onlyDirect, onlyPrepared, onlyQueue } from '../../../harness/variant.ts'
import type { Test } from 'tap'

const postgres = await startTestPostgres(t)

async function setUp (t: Test) {
  const proxy = await startPgProxy(t, postgres)
  const app = Fastify()
  await app.register(pgScope, { connectionString: proxy.connectionString(postgres.connectionString), pool: { max: 1 } })
  t.teardown(() => app.close())
  proxy.reset()
  return { proxy, db: app.db }
}

const parsed = (
  proxy: { statements: string[] }, text: string
): number => proxy.statements.filter((statement) => statement === text).length

onlyPrepared(t, 'it is sent without its name, or on a new connection each time').test('a named statement is parsed once for each connection, and runs with other values', async t => {
  const { proxy, db } = await setUp(t)
  const text = 'SELECT $1::int AS a'
  await db.scope(async (session) => {
    for (const a of [1, 2]) t.same((await session.query({ name: 'one', text, values: [a] })).rows, [{ a }])
  })
  await db.scope(async (session) => t.same((await session.query({ name: 'one', text, values: [3] })).rows, [{ a: 3 }]))
  t.same((await db.query({ name: 'one', text, values: [4] })).rows, [{ a: 4 }])
  t.equal(parsed(proxy, text), 1)
  t.equal(proxy.executed.filter((executed) => executed === text).length, 4)
})

t.test('the same name with another text is prepared again', async t => {
  const { db } = await setUp(t)
  await db.scope(async (session) => {
    for (const a of [1, 2, 1, 2]) t.same((await session.query({ name: 'one', text: `SELECT ${a} AS a` })).rows, [{ a }])
  })
})

t.test('a name whose first Parse failed can be used again', async t => {
  const { db } = await setUp(t)
  await t.rejects(db.query({ name: 'one', text: 'SELECT * FROM not_yet' }), { code: '42P01' })
  await db.query('CREATE TABLE not_yet AS SELECT 1 AS a')
  t.same((await db.query({ name: 'one', text: 'SELECT * FROM not_yet' })).rows, [{ a: 1 }])
})

t.test('a name whose first execution failed can be used again', async t => {
  const { db } = await setUp(t)
  const text = 'SELECT 1 / $1::int AS a'
  await t.rejects(db.scope((session) => session.query({ name: 'one', text, values: [0] })), { code: '22012' })
  t.same((await db.query({ name: 'one', text, values: [1] })).rows, [{ a: 1 }])
  await t.rejects(db.query({ name: 'one', text, values: [0] }), { code: '22012' })
  t.same((await db.query({ name: 'one', text, values: [1] })).rows, [{ a: 1 }])
})

t.test('named and unnamed statements share a batch, the same name twice included', async t => {
  const { proxy, db } = await setUp(t)
  await db.scope(async (session) => {
    const results = await Promise.all([
      session.query('SELECT 0 AS a'),
      session.query({ name: 'one', text: 'SELECT $1::int AS a', values: [1] }),
      session.query('SELECT $1::int AS a', [2]),
      session.query({ name: 'one', text: 'SELECT $1::int AS a', values: [3] }),
      session.query({ name: 'one', text: 'SELECT 10 + $1::int AS a', values: [4] })
    ])
    t.same(results.map(({ rows }) => rows[0].a), [0, 1, 2, 3, 14])
  })
  t.equal(proxy.roundTrips, 2)
})

t.test('a name that a failure in front of it kept from being parsed can be used again', async t => {
  const { db } = await setUp(t)
  await db.scope(async (session) => {
    const named = { name: 'one', text: 'SELECT 1 AS a' }
    const [first, second] = await Promise.allSettled([session.query('SELECT 1/0'), session.query(named)])
    t.match([first, second], [{ status: 'rejected' }, { status: 'rejected' }])
    await session.rollback()
    t.same((await session.query(named)).rows, [{ a: 1 }])
  })
})

onlyDirect(onlyQueue(t, 'it is about a name that was prepared before'), 'DEALLOCATE is refused there').test('a name can be used in one turn with what deallocates it', async t => {
  const { db } = await setUp(t)
  const one = { name: 'one', text: 'SELECT 1 AS a' }
  const use = async (session: typeof db | Parameters<Parameters<typeof db.scope>[0]>[0]): Promise<void> => {
    t.same((await session.query(one)).rows, [{ a: 1 }])
  }
  for (const forget of ['DEALLOCATE one', 'DEALLOCATE ALL', 'SELECT 1; DEALLOCATE one']) {
    for (const begun of [false, true]) {
      await use(db)
      await db.scope(async (session) => {
        if (begun) await session.query('SELECT 1')
        await Promise.all([use(session), session.query(forget), use(session), use(session)])
        await use(session)
      })
    }
  }
})

onlyDirect(onlyQueue(t, 'it is about a name that was prepared before'), 'DEALLOCATE is refused there').test('a name can be used behind a DEALLOCATE that was sent before the name was answered', async t => {
  for (const known of [true, false]) {
    const { db } = await setUp(t)
    const one = { name: 'one', text: 'SELECT 1 AS a' }
    if (known) await db.query(one)
    await db.scope(async (session) => {
      if (!known) await session.query('SELECT 1')
      const first = session.query(one)
      const others = [session.query('SELECT pg_sleep(0.2)'), session.query('DEALLOCATE ALL')]
      t.same((await first).rows, [{ a: 1 }])
      t.same((await session.query(one)).rows, [{ a: 1 }], known ? 'prepared before' : 'being prepared')
      await Promise.all(others)
    })
  }
})

t.test('an empty name never runs the text of another statement', async t => {
  const { db } = await setUp(t)
  await db.scope(async (session) => {
    t.same((await session.query({ name: '', text: 'SELECT 1 AS a' })).rows, [{ a: 1 }])
    t.same((await session.query('SELECT 2 AS a')).rows, [{ a: 2 }])
    t.same((await session.query({ name: '', text: 'SELECT 1 AS a' })).rows, [{ a: 1 }])
  })
})

onlyPrepared(t, 'it is sent without its name, or on a new connection each time').test('prepared statements outlive a rollback, as PostgreSQL has it', async t => {
  const { proxy, db } = await setUp(t)
  const text = 'SELECT 1 AS a'
  await db.scope(async (session) => {
    await session.query({ name: 'one', text })
    await session.rollback()
    t.same((await session.query({ name: 'one', text })).rows, [{ a: 1 }])
  })
  t.equal(parsed(proxy, text), 1)
})
