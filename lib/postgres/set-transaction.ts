// Statements that change how the transaction they stand in runs
// (https://www.postgresql.org/docs/current/sql-set-transaction.html).
import { statementsOf } from './statement-words.ts'

// A nested comment or another line end does not match: only a certain match may be sent before the settings.
const blank = String.raw`(?:\s|--[^\n\r]*[\n\r]|\/\*(?:[^*/]|\*(?!\/)|\/(?!\*))*\*\/)`
const modes = `transaction${blank}+(?:isolation|read|not|deferrable|snapshot)\\b`
const names = `"?transaction_(?:isolation|read_only|deferrable)"?(?:${blank}*=|${blank}+to\\b)`
const leading = new RegExp(`^${blank}*set${blank}+(?:(?:local|session)${blank}+)?(?:${modes}|${names})`, 'i')

/** The text is a single statement that PostgreSQL accepts only before any query. False in case of doubt. */
export function goesFirst (text: string): boolean {
  return mayChangeMode(text) && leading.test(text) && statementsOf(text).length === 1
}

/** The text may change the transaction's mode, for example from read-only to read-write. True in case of doubt. */
export function mayChangeMode (text: string): boolean {
  return /\bset(?:_config)?\b/i.test(text) && /\btransaction/i.test(text)
}
