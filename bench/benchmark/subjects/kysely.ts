import { Kysely, PostgresDialect, sql } from 'kysely'
import pg from 'pg'
import { randomAmount, randomId, randomIds, tenant, timeout, userOf } from '../../../harness/workload-statements.ts'
import { type Database, read, settingsColumns } from '../kysely-tables.ts'
import type { Declare } from '../subject.ts'

/** `db.transaction().execute()` of its documentation, on the dialect for pg. */
const kysely: Declare = async (app, { connectionString, max }) => {
  const pool = new pg.Pool({ connectionString, max, connectionTimeoutMillis: 5000 })
  pool.on('error', () => {})
  const db = new Kysely<Database>({ dialect: new PostgresDialect({ pool }) })
  app.addHook('onClose', () => db.destroy())

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
    return await trx.selectFrom('accounts').select(settingsColumns).where('id', '=', randomId()).executeTakeFirstOrThrow()
  }))
}

export default kysely
