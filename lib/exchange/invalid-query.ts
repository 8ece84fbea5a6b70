import { pgScopeError, type PgScopeError } from '../errors.ts'

/** @param what what is wrong with it, without any value */
export function invalidQuery (what: string, cause?: unknown): PgScopeError {
  return pgScopeError('FST_PG_SCOPE_QUERY_INVALID', `Invalid query: ${what}. Call query(text, values) or query({ text, values }).`, cause)
}
