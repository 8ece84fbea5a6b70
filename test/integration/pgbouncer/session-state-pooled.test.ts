// What a session leaves behind, where a PgBouncer stands in between.
import Fastify from 'fastify'
import t from 'tap'
import { pgScope } from '../../../lib/index.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { eachPlace } from './places.ts'

const postgres = await startTestPostgres(t)
/** Behind transaction pooling a DO block is not looked into. */
const texts = { session: ["DO $$ BEGIN SET app.tenant = '7'; END $$"], transaction: [] }
const look = "SELECT coalesce(current_setting('app.tenant', true), '') AS tenant, current_setting('work_mem') AS memory"

t.test('what a session leaves behind never reaches the next one', (t) => eachPlace(t, postgres, ['session', 'transaction'], async (t, { mode, connectionString }) => {
  const given = mode as 'session' | 'transaction'
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(pgScope, { connectionString, pooler: given, pool: { max: 1, acquireTimeout: 30000 } })
  for (const text of ["SET app.tenant = '7'", "SELECT set_config('work_mem', '1MB', false)", ...texts[given]]) {
    const work = app.db.scope((session) => session.query(text))
    if (mode === 'transaction') await t.rejects(work, { code: 'FST_PG_SCOPE_POOLER_UNSUPPORTED' }, text)
    else await work
    t.same((await app.db.query(look)).rows, [{ tenant: '', memory: '4MB' }], text)
  }
  t.equal(app.db.stats().counters.opened, 1)
}))
