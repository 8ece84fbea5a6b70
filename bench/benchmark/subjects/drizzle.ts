import { eq, sql } from 'drizzle-orm'
import { drizzle, type NodePgDatabase } from 'drizzle-orm/node-postgres'
import { bigint, integer, pgTable, text } from 'drizzle-orm/pg-core'
import pg from 'pg'
import { randomAmount, randomId, randomIds, tenant, timeout, userOf } from '../../../harness/workload-statements.ts'
import type { Declare } from '../subject.ts'

const accounts = pgTable('accounts', {
  id: integer().primaryKey(),
  owner: text().notNull(),
  balance: integer().notNull()
})
const entries = pgTable('entries', {
  id: bigint({ mode: 'bigint' }).primaryKey().generatedAlwaysAsIdentity(),
  account: integer().notNull(),
  amount: integer().notNull()
})

/** `db.transaction()` of its documentation, on its driver for pg. */
const drizzleOrm: Declare = async (app, { connectionString, max }) => {
  const pool = new pg.Pool({ connectionString, max, connectionTimeoutMillis: 5000 })
  pool.on('error', () => {})
  const db = drizzle(pool)
  app.addHook('onClose', () => pool.end())

  const read = async (db: Pick<NodePgDatabase, 'select'>, id: number) => {
    const [row] = await db.select().from(accounts).where(eq(accounts.id, id))
    return row
  }

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
    const [row] = await tx.select({
      id: accounts.id,
      owner: accounts.owner,
      balance: accounts.balance,
      user: sql<string>`current_setting('app.user_id')`,
      tenant: sql<string>`current_setting('app.tenant_id')`,
      timeout: sql<string>`current_setting('statement_timeout')`
    }).from(accounts).where(eq(accounts.id, randomId()))
    return row
  }))
}

export default drizzleOrm
