// With the null strategy a connection belongs to one session and ends with it.
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import pgScope, { type PgScopeOptions } from '../../../lib/index.ts'
import { startPgProxy } from '../../../harness/pg-proxy.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { onlyDirect } from '../../../harness/variant.ts'

const postgres = await startTestPostgres(t)
const direct = onlyDirect(t, 'PgBouncer gives its server connections to all clients')

async function setUp (t: Test, options: PgScopeOptions = {}, connectionString = postgres.connectionString) {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(pgScope, { connectionString, ...options, pool: { strategy: 'null', max: 5, acquireTimeout: 60000, ...options.pool } })
  return app
}

const pid = 'SELECT pg_backend_pid() AS pid, current_setting(\'app.tenant\', true) AS tenant, pg_try_advisory_lock(7) AS locked'

for (const pooler of ['auto', 'none'] as const) {
  direct.test(`60 concurrent sessions have 60 connections and see nothing of each other (pooler: '${pooler}')`, async t => {
    const { db } = await setUp(t, { pooler })
    const results = await Promise.all(Array.from({ length: 60 }, (_, i) => i % 3 === 2
      ? db.query(pid)
      : db.scope(async (session) => {
        const result = await session.query(pid)
        await session.query(`SET app.tenant = '${i}'`)
        if (i % 3 === 1) session.setRollbackOnly()
        return result
      })))
    t.equal(new Set(results.map(({ rows }) => rows[0].pid)).size, 60)
    t.ok(results.every(({ rows }) => rows[0].tenant === null), 'no setting of another session')
    t.match(db.stats().counters, { acquired: 60, handedOver: 0 })
  })
}

t.test('stats().open is never above max, also where connections are refused or cut', async t => {
  const proxy = await startPgProxy(t, postgres)
  const { db } = await setUp(t, { pool: { max: 2 } }, proxy.connectionString(postgres.connectionString))
  let most = 0
  const over = new AbortController()
  const watch = (): void => {
    most = Math.max(most, db.stats().open)
    if (!over.signal.aborted) setImmediate(watch)
  }
  watch()
  for (let round = 0; round < 3; round++) {
    const all = Promise.allSettled(Array.from({ length: 10 }, () => db.query('SELECT pg_sleep(0.01)')))
    proxy.refuse(round === 1)
    if (round === 2) setTimeout(() => proxy.cut(), 20)
    await all
    proxy.refuse(false)
  }
  over.abort()
  t.ok(most <= 2, `${most} at the most`)
})
