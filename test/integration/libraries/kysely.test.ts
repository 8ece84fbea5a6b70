import t from 'tap'
import { sql } from 'kysely'
import { waitFor } from '../../../harness/wait-for.ts'
import { kyselyOf } from '../../../lib/kysely/index.ts'
import { postgres } from './kysely-cases.ts'
import { startShop } from './shop.ts'

t.test('an abort can cancel a query on the server, and a query with a signal runs like any other', async (t) => {
  const { db } = await startShop(t, postgres)
  const controller = new AbortController()
  const inflightQueryAbortStrategy = 'cancel query' as const
  const run = db.scope(async (session) => {
    const kysely = kyselyOf<any>(session)
    const { signal } = controller
    t.same((await sql`SELECT 1 AS one`.execute(kysely, { signal, inflightQueryAbortStrategy })).rows, [{ one: 1 }])
    await t.rejects(sql`SELECT pg_sleep(60)`.execute(kysely, { signal, inflightQueryAbortStrategy }), { message: 'enough' })
  })
  const sleeping = async (): Promise<boolean> => (await postgres.activity()).some(({ query, state }) => state === 'active' && query.includes('pg_sleep'))
  await waitFor(sleeping)
  controller.abort(new Error('enough'))
  await t.rejects(run, 'the transaction has failed')
  await waitFor(async () => !await sleeping())
  t.equal(db.stats().inUse, 0)
})
