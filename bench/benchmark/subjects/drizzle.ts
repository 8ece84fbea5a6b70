import { eq, sql } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/node-postgres'
import pg from 'pg'
import { randomAmount, randomId, randomIds, tenant, timeout, userOf } from '../../../harness/workload-statements.ts'
import { accounts, entries, read, settingsColumns } from '../drizzle-tables.ts'
import type { Declare } from '../subject.ts'

/** `db.transaction()` of its documentation, on its driver for pg. */
const drizzleOrm: Declare = async (app, { connectionString, max }) => {
  const pool = new pg.Pool({ connectionString, max, connectionTimeoutMillis: 5000 })
  pool.on('error', () => {})
  const db = drizzle(pool)
  app.addHook('onClose', () => pool.end())

  app.get('/read', () => db.transaction((tx) => read(tx, randomId())))
  app.get('/read-only', () => db.transaction((tx) => read(tx, randomId()), { accessMode: 'read only' }))
  app.get('/autocommit', () => read(db, randomId()))
  app.post('/write', async (_request, reply) => {
    const account = randomId()
    const amount = randomAmount()
    await db.transaction(async (tx) => {
      await tx.update(accounts).set({ balance: sql`${accounts.balance} + ${amount}` }).where(eq(accounts.id, account))
      await tx.insert(entries).values({ account, amount })
    })
    reply.code(201)
    return { account, amount }
  })
  app.get('/page', () => db.transaction(async (tx) => {
    const page = []
    for (const id of randomIds()) page.push(await read(tx, id))
    return page
  }))
  app.get('/settings', (request) => db.transaction(async (tx) => {
    await tx.execute(sql`SELECT set_config('app.user_id', ${userOf(request)}, true), set_config('app.tenant_id', ${tenant}, true), set_config('statement_timeout', ${timeout}, true)`)
    const [row] = await tx.select(settingsColumns).from(accounts).where(eq(accounts.id, randomId()))
    return row
  }))
}

export default drizzleOrm
