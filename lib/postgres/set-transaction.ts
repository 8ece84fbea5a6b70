// Statements that change how the transaction they stand in runs (https://www.postgresql.org/docs/current/sql-set-transaction.html).
import { statementsOf } from './statement-words.ts'

// A comment inside of a comment, or a line that ends otherwise, is no match: what is sent ahead of the settings must be certain.
const blank = String.raw`(?:\s|--[^\n\r]*[\n\r]|\/\*(?:[^*/]|\*(?!\/)|\/(?!\*))*\*\/)`
const modes = `transaction${blank}+(?:isolation|read|not|deferrable|snapshot)\\b`
const names = `"?transaction_(?:isolation|read_only|deferrable)"?(?:${blank}*=|${blank}+to\\b)`
const leading = new RegExp(`^${blank}*set${blank}+(?:(?:local|session)${blank}+)?(?:${modes}|${names})`, 'i')

/** By itself, one that PostgreSQL takes only ahead of every query. Of what it may not be certain about it says no. */
export function goesFirst (text: string): boolean {
  return mayChangeMode(text) && leading.test(text) && statementsOf(text).length === 1
}

/** Whether the transaction may be read-only, or serializable, no more or only behind it. Of a few others it says yes, too. */
export function mayChangeMode (text: string): boolean {
  return /\bset\b/i.test(text) && /\btransaction/i.test(text)
}
