// The tables of the benchmark, as the subjects on Drizzle declare them.
import { eq, sql } from 'drizzle-orm'
import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import { bigint, integer, pgTable, text } from 'drizzle-orm/pg-core'

export const accounts = pgTable('accounts', {
  id: integer().primaryKey(),
  owner: text().notNull(),
  balance: integer().notNull()
})
export const entries = pgTable('entries', {
  id: bigint({ mode: 'bigint' }).primaryKey().generatedAlwaysAsIdentity(),
  account: integer().notNull(),
  amount: integer().notNull()
})

/** An account, with the settings that the transaction has. */
export const settingsColumns = {
  id: accounts.id,
  owner: accounts.owner,
  balance: accounts.balance,
  user: sql<string>`current_setting('app.user_id')`,
  tenant: sql<string>`current_setting('app.tenant_id')`,
  timeout: sql<string>`current_setting('statement_timeout')`
}

export async function read (db: Pick<NodePgDatabase, 'select'>, id: number) {
  const [row] = await db.select().from(accounts).where(eq(accounts.id, id))
  return row
}
