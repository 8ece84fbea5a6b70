import { bigint, integer, pgTable, text, timestamp } from 'drizzle-orm/pg-core'

/** What Drizzle knows of the tables. The migrations make them, with their constraints. */
export const accounts = pgTable('accounts', {
  id: integer().primaryKey().generatedAlwaysAsIdentity(),
  owner: text().notNull(),
  balance: bigint({ mode: 'number' }).notNull()
})

export const transfers = pgTable('transfers', {
  id: integer().primaryKey().generatedAlwaysAsIdentity(),
  sender: integer().notNull().references(() => accounts.id),
  receiver: integer().notNull().references(() => accounts.id),
  amount: integer().notNull(),
  at: timestamp({ withTimezone: true }).notNull().defaultNow()
})
