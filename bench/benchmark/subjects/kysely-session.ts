import pgScope, { type RouteOptions } from '../../../lib/index.ts'
import { kyselyOf } from '../../../lib/kysely/index.ts'
import { randomAmount, randomId, randomIds, tenant, timeout, userOf } from '../../../harness/workload-statements.ts'
import { type Database, read, settingsColumns } from '../kysely-tables.ts'
import type { Declare } from '../subject.ts'

/** What docs/kysely.md shows: an instance for each request. */
const kyselySession: Declare = async (app, { connectionString, max }) => {
  await app.register(pgScope, { connectionString, pool: { max } })

  app.get('/read', (request) => read(kyselyOf<Database>(request.db), randomId()))
  app.get('/read-only', { config: { db: { readOnly: true } } }, (request) => read(kyselyOf<Database>(request.db), randomId()))
  app.get('/autocommit', { config: { db: { mode: 'autocommit' } } }, (request) => read(kyselyOf<Database>(request.db), randomId()))
  app.post('/write', async (request, reply) => {
    const db = kyselyOf<Database>(request.db)
    const account = randomId()
    const amount = randomAmount()
    await db.updateTable('accounts').set((eb) => ({ balance: eb('balance', '+', amount) })).where('id', '=', account).execute()
    await db.insertInto('entries').values({ account, amount }).execute()
    reply.code(201)
    return { account, amount }
  })
  app.get('/page', (request) => {
    const db = kyselyOf<Database>(request.db)
    return Promise.all(randomIds().map((id) => read(db, id)))
  })
  const settings: RouteOptions['settings'] = (request) => ({ 'app.user_id': userOf(request), 'app.tenant_id': tenant })
  app.get('/settings', { config: { db: { statementTimeout: timeout, settings } } }, (request) => {
    return kyselyOf<Database>(request.db).selectFrom('accounts').select(settingsColumns).where('id', '=', randomId()).executeTakeFirstOrThrow()
  })
}

export default kyselySession
