import type { Answer } from './load.ts'

/** What clients were told, held against what is in the tables. */
export interface Books {
  /** Told of a success, and not there. */
  lost: number
  /** There, although the client was told of an error. */
  unwanted: number
  /** There more than once, or not as a whole. */
  broken: number
  /** Told that the outcome is unknown, or nothing; and how many of those are there. */
  unknown: number
  unknownSaved: number
}

export interface Row {
  id: string
  /** How many rows of a transfer, and of its entries, and what the entries come to. */
  transfers: number
  entries: number
  sum: number
}

export const bookQuery = `
  SELECT id, count(*)::int AS transfers, coalesce(max(e.n), 0)::int AS entries, coalesce(max(e.sum), 0)::int AS sum
    FROM transfers LEFT JOIN (SELECT transfer, count(*) AS n, sum(amount) AS sum FROM entries GROUP BY transfer) AS e ON e.transfer = id
   GROUP BY id`

export function compare (answers: readonly Answer[], rows: readonly Row[]): Books {
  const saved = new Map(rows.map((row) => [row.id, row]))
  const books: Books = { lost: 0, unwanted: 0, broken: 0, unknown: 0, unknownSaved: 0 }
  for (const { transfers, entries, sum } of rows) if (transfers !== 1 || entries !== 2 || sum !== 0) books.broken++
  for (const answer of answers) {
    if (answer.kind !== 'transfer') continue
    const there = saved.has(answer.id)
    if (isUnknown(answer)) {
      books.unknown++
      if (there) books.unknownSaved++
    } else if (answer.status < 400 && !there) books.lost++
    else if (answer.status >= 400 && there) books.unwanted++
  }
  return books
}

export function isUnknown ({ status, code }: Pick<Answer, 'status' | 'code'>): boolean {
  return status === 0 || code === 'FST_PG_SCOPE_COMMIT_UNKNOWN'
}
