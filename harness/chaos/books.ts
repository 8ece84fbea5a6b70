import { isUnknown } from '../reliability/books.ts'
import { accounts, type Entry } from './clients.ts'

export const schema = `
  CREATE TABLE accounts (id int PRIMARY KEY, balance int NOT NULL);
  INSERT INTO accounts SELECT id, 1000 FROM generate_series(1, ${accounts}) AS id;
  -- No key: a transfer that was made twice has to show, not to fail.
  CREATE TABLE ledger (id text NOT NULL, "from" int NOT NULL, "to" int NOT NULL)`

/** The journal held against the ledger. */
export interface Books {
  acknowledged: number
  /** Acknowledged, and not in the ledger. */
  lost: Entry[]
  /** Rejected, and in the ledger. */
  unwanted: Entry[]
  twice: Entry[]
  /** Idempotent transfers that are not in the ledger exactly once. */
  notOnce: Entry[]
  /** Answered with FST_PG_SCOPE_COMMIT_UNKNOWN. */
  unknown: number
  /** Without a whole answer: the app was killed, or the client left. */
  silent: number
}

export function compare (journal: readonly Entry[], ids: readonly string[]): Books {
  const times = new Map<string, number>()
  for (const id of ids) times.set(id, (times.get(id) ?? 0) + 1)
  const books: Books = { acknowledged: 0, lost: [], unwanted: [], twice: [], notOnce: [], unknown: 0, silent: 0 }
  for (const entry of journal) {
    const { id, kind, status } = entry
    const found = times.get(id) ?? 0
    if (found > 1) books.twice.push(entry)
    if (kind === 'idempotent' && found !== 1) books.notOnce.push(entry)
    if (status === 0) books.silent++
    else if (isUnknown(entry)) books.unknown++
    else if (status < 400) {
      books.acknowledged++
      if (found === 0) books.lost.push(entry)
    } else if (found > 0) books.unwanted.push(entry)
  }
  return books
}
