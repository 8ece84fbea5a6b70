// The tables of the benchmark, as the subjects on Kysely declare them.
import { type Generated, type Kysely, sql } from 'kysely'

export interface Database {
  accounts: { id: number, owner: string, balance: number }
  entries: { id: Generated<string>, account: number, amount: number }
}

/** An account, with the settings that the transaction has. */
export const settingsColumns = [
  'id', 'owner', 'balance',
  sql<string>`current_setting('app.user_id')`.as('user'),
  sql<string>`current_setting('app.tenant_id')`.as('tenant'),
  sql<string>`current_setting('statement_timeout')`.as('timeout')
] as const

export function read (db: Kysely<Database>, id: number) {
  return db.selectFrom('accounts').select(['id', 'owner', 'balance']).where('id', '=', id).executeTakeFirstOrThrow()
}
