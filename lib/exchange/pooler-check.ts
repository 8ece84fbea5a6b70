import { ruleFor, unsupportedError } from '../pgbouncer/rules.ts'
import type { Connection } from '../pool/connection.ts'
import type { Statement } from './statement.ts'

/**
 * Whether the rules of a pooler keep a statement from being sent over this connection now. It was called when no pooler
 * was known, or the connection does not lead where most connections lead. If the connection leads to a pooler, the
 * statement is refused, as its call would have been; if that is not known yet, it waits for the answer of the server.
 */
export function isHeldBack (statement: Statement, { poolsTransactions }: Connection): boolean {
  if (poolsTransactions === false || statement.uncheckedText === null) return false
  const rule = ruleFor(statement.uncheckedText)
  if (rule === null) return false
  if (poolsTransactions === true) statement.refusal = unsupportedError(rule)
  return true
}
