import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import t, { type Test } from 'tap'
import { startApp } from './app.ts'
import { startPgProxy } from '../../../harness/pg-proxy.ts'
import { eachPgBouncer, startPgBouncer } from '../../../harness/pgbouncer.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { waitFor } from '../../../harness/wait-for.ts'
import type { FastifyInstance } from 'fastify'

const postgres = await startTestPostgres(t)

const slowly = 'SELECT pg_sleep(2), \'secret\' AS answer'

/** What a client that vanishes may have under way: everything that is pipelined somewhere. */
const work: Record<string, (db: FastifyInstance['db']) => Promise<unknown>> = {
  'a first statement on a new connection': (db) => db.scope((session) => session.query(slowly)),
  'a statement by itself on a new connection': (db) => db.query(slowly),
  'several statements by themselves in one text': (db) => db.query(`SELECT 1; ${slowly}`),
  'statements of a transaction, all called at once': (db) => db.scope(async (session) => {
    await session.query('SELECT 1')
    await Promise.all([session.query('SELECT 2'), session.query(slowly), session.query('SELECT 3')])
  }),
  'a first batch behind a COMMIT': (db) => Promise.all([db.scope((session) => session.query('SELECT 1')), db.scope((session) => session.query(slowly))]),
  'a stream': (db) => db.scope((session) => session.stream('SELECT pg_sleep(0.005), \'secret\' AS answer FROM generate_series(1, 1000)', [], { batchSize: 100 }).toArray()),
  'a raw client': (db) => db.lease((client) => Promise.all([client.query('SELECT 1'), client.query(slowly)]))
}

/** Nothing of a transaction is committed before COMMIT: its first batch is sent again, on another connection. */
const again = ['a first statement on a new connection', 'a first batch behind a COMMIT', 'a stream']

/** Its own connection, and its own answer. */
async function stranger (t: Test, connectionString: string, label: string): Promise<void> {
  const client = new pg.Client({ connectionString })
  client.on('error', () => {})
  await client.connect()
  const begun = performance.now()
  const { rows } = await client.query('SELECT $1::text AS answer', [label])
  t.same(rows, [{ answer: label }], 'its own answer')
  t.ok(performance.now() - begun < 1500, 'without waiting for somebody else\'s')
  await client.end()
}

t.test('a client that vanishes leaves nothing to the next one of PgBouncer, whatever it had under way', async t => {
  await eachPgBouncer(t, async (t, program) => {
    const pgbouncer = await startPgBouncer(t, postgres, { program })
    for (const [name, run] of Object.entries(work)) {
      const proxy = await startPgProxy(t, pgbouncer)
      const { db } = await startApp(t, {
        connectionString: proxy.connectionString(pgbouncer.connectionString), closeTimeout: 100, pool: { max: 1 }
      })
      const outcome = run(db).then(() => 'done', () => 'lost')
      await waitFor(async () => (await postgres.activity()).some(({ query, state }) => /secret|FETCH/.test(query) && state === 'active'), { interval: 5 })
      await sleep(80)
      proxy.cut({ reset: true })
      t.equal(await outcome, again.includes(name) ? 'done' : 'lost', name)
      await Promise.all([1, 2, 3].map((i) => stranger(t, pgbouncer.connectionString, `mine ${i}`)))
      await waitFor(async () => (await postgres.activity()).every(({ state }) => state === 'idle'))
    }
  })
})
