import type { Generated } from 'kysely'

/** What Kysely knows of the tables: as pg returns their columns, a bigint as a string. */
export interface Tables {
  accounts: {
    id: Generated<number>
    owner: string
    balance: string | number
  }
  transfers: {
    id: Generated<number>
    sender: number
    receiver: number
    amount: number
    at: Generated<Date>
  }
}
