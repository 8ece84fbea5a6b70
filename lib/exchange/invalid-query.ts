import { pgScopeError, type PgScopeError } from '../errors.ts'

/** @param what what is wrong, without parameter values */
export function invalidQuery (what: string, cause?: unknown): PgScopeError {
  const message = `Invalid query: ${what}. Call query(text, values) or query({ text, values }).`
  return pgScopeError('FST_PG_SCOPE_QUERY_INVALID', message, cause)
}
