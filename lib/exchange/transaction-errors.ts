import { pgScopeError, type PgScopeError } from '../errors.ts'
import { failureKind, isStalePlan } from '../postgres/sqlstate.ts'

/** What the client is told when the server refused COMMIT: nothing of the transaction is kept. */
export function commitError (error: unknown): PgScopeError {
  switch (failureKind(error)) {
    case 'constraint':
      return pgScopeError('FST_PG_SCOPE_CONSTRAINT_VIOLATION', 'COMMIT was refused by a deferred constraint: nothing is saved.', error)
    case 'serialization':
      return pgScopeError('FST_PG_SCOPE_SERIALIZATION_FAILURE', 'COMMIT was refused because another transaction came in between: nothing is saved, and the same request may succeed when it is sent again.', error)
    default:
      return pgScopeError('FST_PG_SCOPE_COMMIT_FAILED', 'COMMIT was refused by the server: nothing is saved.', error)
  }
}

/** @param what was under way when the connection was lost */
export function unknownOutcome (error: unknown, what = 'COMMIT'): PgScopeError {
  return pgScopeError('FST_PG_SCOPE_COMMIT_UNKNOWN', `The connection was lost while ${what} was under way: the work may be saved or not. Look it up before you try again.`, error)
}

export function transactionAborted (cause: unknown): PgScopeError {
  const error = pgScopeError('FST_PG_SCOPE_TRANSACTION_ABORTED', 'An earlier statement of this transaction failed, so that none of it can be saved. Let its error leave the handler, call rollback(), or run what may fail in transaction(fn).', cause)
  return isWorthRetrying(cause) ? maySucceedLater(error) : error
}

export function connectionLost (cause: unknown): PgScopeError {
  return pgScopeError('FST_PG_SCOPE_CONNECTION_LOST', 'The connection to the server was lost before COMMIT: nothing of this transaction is saved, and the same request may succeed when it is sent again.', cause)
}

/**
 * Serialization failures of a statement, and a plan that a migration has outdated, stay pg's own errors, for their SQLSTATE is
 * what a handler looks at; with a status, Fastify answers one that nobody caught like one that COMMIT met.
 */
export function withStatus (error: unknown): unknown {
  return isWorthRetrying(error) ? maySucceedLater(error as object) : error
}

/** The same request may succeed when it is sent again. */
function isWorthRetrying (error: unknown): boolean {
  return failureKind(error) === 'serialization' || isStalePlan(error) || (error instanceof Error && (error as { statusCode?: number }).statusCode === 503)
}

/** Adds the status with which Fastify answers an error that nobody caught: 503, to be tried again. */
export function maySucceedLater<T> (error: T): T {
  return Object.assign(error as object, { statusCode: 503, headers: { 'retry-after': '1' } }) as T
}

/** Anything can be thrown: what is no error makes an answer only inside of one. */
export function asError (reason: unknown): Error & { statusCode?: number } {
  return reason instanceof Error ? reason : transactionAborted(reason)
}
