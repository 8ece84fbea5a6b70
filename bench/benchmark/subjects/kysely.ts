import { Kysely, PostgresDialect, sql, type Generated } from 'kysely'
import pg from 'pg'
import { randomAmount, randomId, randomIds, tenant, timeout, userOf } from '../../../harness/workload-statements.ts'
import type { Declare } from '../subject.ts'

interface Database {
  accounts: { id: number, owner: string, balance: number }
  entries: { id: Generated<string>, account: number, amount: number }
}

/** `db.transaction().execute()` of its documentation, on the dialect for pg. */
const kysely: Declare = async (app, { connectionString, max }) => {
  const pool = new pg.Pool({ connectionString, max, connectionTimeoutMillis: 5000 })
  pool.on('error', () => {})
  const db = new Kysely<Database>({ dialect: new PostgresDialect({ pool }) })
  app.addHook('onClose', () => db.destroy())

  const read = (db: Kysely<Database>, id: number) => db.selectFrom('accounts').select(['id', 'owner', 'balance']).where('id', '=', id).executeTakeFirstOrThrow()

  app.get('/read', () => db.transaction().execute((trx) => read(trx, randomId())))
  app.get('/read-only', () => db.transaction().setAccessMode('read only').execute((trx) => read(trx, randomId())))
  app.get('/autocommit', () => read(db, randomId()))
  app.post('/write', async (_request, reply) => {
    const account = randomId()
    const amount = randomAmount()
    await db.transaction().execute(async (trx) => {
      await trx.updateTable('accounts').set((eb) => ({ balance: eb('balance', '+', amount) })).where('id', '=', account).execute()
      await trx.insertInto('entries').values({ account, amount }).execute()
    })
    reply.code(201)
    return { account, amount }
  })
  app.get('/page', () => db.transaction().execute(async (trx) => {
    const page = []
    for (const id of randomIds()) page.push(await read(trx, id))
    return page
  }))
  app.get('/settings', (request) => db.transaction().execute(async (trx) => {
    await sql`SELECT set_config('app.user_id', ${userOf(request)}, true), set_config('app.tenant_id', ${tenant}, true), set_config('statement_timeout', ${timeout}, true)`.execute(trx)
    return await trx.selectFrom('accounts').select([
      'id', 'owner', 'balance',
      sql<string>`current_setting('app.user_id')`.as('user'),
      sql<string>`current_setting('app.tenant_id')`.as('tenant'),
      sql<string>`current_setting('statement_timeout')`.as('timeout')
    ]).where('id', '=', randomId()).executeTakeFirstOrThrow()
  }))
}

export default kysely
