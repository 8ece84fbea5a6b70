// What waits for a transaction(fn) is rejected when the server ends the connection, for fn may wait for it.
import { once } from 'node:events'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import pgScope from '../../../harness/plugin.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { waitFor } from '../../../harness/wait-for.ts'
import type { Session } from '../../../types/session.ts'

const postgres = await startTestPostgres(t)
await postgres.query('CREATE TABLE item (n int PRIMARY KEY, text text)')
await postgres.query("INSERT INTO item SELECT n, 'old' FROM generate_series(1, 6) AS n")
const astray: unknown[] = []
process.on('unhandledRejection', (error) => astray.push(error))

async function setUp (t: Test, config: object, work: (db: Session) => unknown) {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(pgScope, { connectionString: postgres.connectionString, ...config })
  app.get('/', async ({ db }) => {
    await work(db)
    return { ok: true }
  })
  return app
}

const calls: Record<string, (db: Session) => Promise<unknown>> = {
  'a statement': (db) => db.query('SELECT 2'),
  'statements behind each other': (db) => Promise.all([db.query('SELECT 2'), db.query('SELECT 3')]),
  'a stream': (db) => db.stream('SELECT 2').toArray(),
  'a transaction(fn)': (db) => db.transaction((db) => db.query('SELECT 2'))
}

for (const [name, call] of Object.entries(calls)) {
  for (const depth of [1, 2]) {
    t.test(`idleInTransactionTimeout ends the connection: ${name} that waits for transaction(fn), ${depth} deep, is rejected at once`, async (t) => {
      const app = await setUp(t, { idleInTransactionTimeout: 200 }, async (db) => {
        const called: { outside?: Promise<unknown> } = {}
        const nested = (db: Session, left: number): Promise<unknown> => db.transaction(async (db) => {
          await db.query('SELECT 1')
          await (left > 1 ? nested(db, left - 1) : called.outside)
        })
        const inner = nested(db, depth)
        called.outside = call(db)
        await inner
      })
      const answer = await app.inject('/')
      t.equal(answer.statusCode, 503)
      t.match(answer.json(), { code: 'FST_PG_SCOPE_CONNECTION_LOST' })
      await waitFor(() => app.db.stats().inUse === 0)
      t.same(astray.splice(0), [])
    })
  }
}

t.test('in scope() too', async (t) => {
  const app = await setUp(t, { idleInTransactionTimeout: 200 }, () => {})
  await t.rejects(app.db.scope(async (db) => {
    const called: { outside?: Promise<unknown> } = {}
    const inner = db.transaction(async (db) => {
      await db.query('SELECT 1')
      await called.outside
    })
    called.outside = db.query('SELECT 2')
    await inner
  }), { code: 'FST_PG_SCOPE_CONNECTION_LOST' })
})

for (const isolation of ['repeatable read', 'serializable'] as const) {
  for (const [name, leave] of [['left early', 'break'], ['destroyed', 'destroy']] as const) {
    t.test(`a stream that is ${name}, and whose next rows fail for a concurrent update: 503 with Retry-After (${isolation})`, async (t) => {
      const app = await setUp(t, { isolation }, async (db) => {
        await db.query('SELECT count(*) FROM item')
        await postgres.query("UPDATE item SET text = 'new' WHERE n = 3")
        const rows = db.stream('SELECT n FROM item ORDER BY n FOR UPDATE', [], { batchSize: 2 })
        if (leave === 'destroy') {
          await once(rows, 'data')
          rows.destroy()
        } else {
          for await (const { n } of rows) if (n === 1) break
        }
      })
      const answer = await app.inject('/')
      t.equal(answer.statusCode, 503, answer.body)
      t.equal(answer.headers['retry-after'], '1')
      t.match(answer.json().code, /^FST_PG_SCOPE_/)
      await waitFor(() => app.db.stats().inUse === 0)
      t.same(astray.splice(0), [])
    })
  }
}
