import { type Books, isUnknown } from './books.ts'
import type { BadDay } from './event.ts'
import type { Answer } from './load.ts'

/** What was seen on one bad day. Times are milliseconds. */
export interface Finding {
  event: BadDay
  setup: string
  answers: Answer[]
  /** Requests that never ended. */
  stuck: number
  books: Books
  /** How long the event took. */
  outage: number
  /** From the server's return; null where there was none. */
  firstSuccess: number | null
  strength: number | null
  /** Backends that stayed `idle in transaction`. */
  leftOpen: number
  /** Connections that did not come back, and sessions that still wait. */
  held: number
  /** Errors that nobody caught. */
  astray: string[]
}

/** Milliseconds from the server's return to a pool that serves as many sessions as it may. */
export const strengthLimit = 2000

export const rule = `no success without its row, no row without its success except where the outcome is told as unknown or no answer came; no
crash, nothing uncaught; nothing left \`idle in transaction\`, no connection kept; the pool at full strength within ${strengthLimit / 1000} s of the
server's return; every error is a 503, or the 500 that says that the outcome is unknown; and where the table says "none may fail", no failed request at all`

/** Where the rule was broken, in words. */
export function breaches (finding: Finding): string[] {
  const { event, answers, stuck, books, firstSuccess, strength, leftOpen, held, astray } = finding
  const failed = answers.filter(({ status }) => status === 0 || status >= 400)
  const odd = failed.filter((answer) => answer.status !== 503 && !isUnknown(answer))
  const silent = answers.filter(({ status }) => status === 0)
  return [
    books.lost > 0 && `${books.lost} successes without their rows`,
    books.unwanted > 0 && `${books.unwanted} rows without their successes`,
    books.broken > 0 && `${books.broken} transfers that are there twice, or not as a whole`,
    astray.length > 0 && `uncaught: ${astray.slice(0, 3).join('; ')}`,
    leftOpen > 0 && `${leftOpen} backends idle in transaction`,
    held > 0 && `${held} connections did not come back`,
    stuck > 0 && `${stuck} requests had no answer after 12 s`,
    silent.length > stuck && `${silent.length - stuck} requests were cut off`,
    firstSuccess === null && 'no success after the event',
    (strength === null || strength > strengthLimit) && `full strength after ${strength ?? 'more than 5000'} ms`,
    odd.length > 0 && `unexpected answers: ${[...new Set(odd.map(({ status, code }) => `${status} ${code}`))].join(', ')}`,
    event.cost === 'no request' && failed.length > 0 && `${failed.length} requests failed, and none should: ${[...new Set(failed.map(({ status, code }) => `${status} ${code}`))].join(', ')}`
  ].filter((breach) => breach !== false)
}

export function longestWait ({ answers }: Finding): number {
  return Math.round(answers.reduce((longest, { sent, ended }) => Math.max(longest, ended - sent), 0))
}

/** Statuses as the clients saw them, the errors with their codes. */
export function statuses ({ answers }: Finding): string {
  const counts = new Map<string, number>()
  for (const { status, code } of answers) {
    const seen = status === 0 ? 'no answer' : code === undefined ? String(status) : `${status} ${code.replace('FST_PG_SCOPE_', '')}`
    counts.set(seen, (counts.get(seen) ?? 0) + 1)
  }
  return [...counts].sort(([a], [b]) => a < b ? -1 : 1).map(([seen, count]) => `${count} × ${seen}`).join(', ')
}
