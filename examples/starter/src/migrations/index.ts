import * as createAccounts from './001-create-accounts.ts'
import * as createTransfers from './002-create-transfers.ts'
import type { Migration } from './migrate.ts'

/** In the order in which they run. What has run somewhere is never changed again: the next change is the next file. */
export const migrations: readonly Migration[] = [
  { name: '001-create-accounts', ...createAccounts },
  { name: '002-create-transfers', ...createTransfers }
]
