import { pgScopeError, type PgScopeError } from '../errors.ts'
import { failureKind, isStalePlan } from '../postgres/sqlstate.ts'

/** The error of a COMMIT that the server rejected: the transaction was rolled back. */
export function commitError (error: unknown): PgScopeError {
  switch (failureKind(error)) {
    case 'constraint':
      return pgScopeError('FST_PG_SCOPE_CONSTRAINT_VIOLATION',
        'COMMIT failed because of a deferred constraint: nothing was saved.', error)
    case 'serialization':
      return pgScopeError('FST_PG_SCOPE_SERIALIZATION_FAILURE', 'COMMIT failed because of a concurrent transaction: ' +
        'nothing was saved, and the same request may succeed when it is sent again.', error)
    default:
      return pgScopeError('FST_PG_SCOPE_COMMIT_FAILED', 'COMMIT was rejected by the server: nothing was saved.', error)
  }
}

/** @param what the statement in progress when the connection was lost */
export function unknownOutcome (error: unknown, what = 'COMMIT'): PgScopeError {
  return pgScopeError('FST_PG_SCOPE_COMMIT_UNKNOWN', `The connection was lost during ${what}: ` +
    'the work may or may not have been saved. Check before you try again.', error)
}

export function transactionAborted (cause: unknown): PgScopeError {
  const error = pgScopeError('FST_PG_SCOPE_TRANSACTION_ABORTED', 'An earlier statement of this transaction failed, ' +
    'so none of its work can be saved. Let the error leave the handler, call rollback(), ' +
    'or run statements that may fail in transaction(fn).', cause)
  return isWorthRetrying(cause) ? maySucceedLater(error) : error
}

export function endedByStatement (): PgScopeError {
  return pgScopeError('FST_PG_SCOPE_TRANSACTION_CONTROL', 'A statement ended the transaction. ' +
    'The work before it may have been saved. Use commit() and rollback() instead.')
}

export function connectionLost (cause: unknown): PgScopeError {
  return pgScopeError('FST_PG_SCOPE_CONNECTION_LOST', 'The connection to the server was lost before COMMIT: ' +
    'nothing of this transaction was saved, and the same request may succeed when it is sent again.', cause)
}

/**
 * A serialization failure of a statement, or a plan made invalid by a migration, remains pg's own error, because
 * handlers check its SQLSTATE. The added status lets Fastify answer 503 if the handler does not catch it, as for a
 * serialization failure of COMMIT.
 */
export function withStatus (error: unknown): unknown {
  return isWorthRetrying(error) ? maySucceedLater(error as object) : error
}

/** The same request may succeed when it is sent again. */
function isWorthRetrying (error: unknown): boolean {
  return failureKind(error) === 'serialization' || isStalePlan(error) ||
    (error instanceof Error && (error as { statusCode?: number }).statusCode === 503)
}

/** Adds status 503 and Retry-After, with which Fastify answers an error that the handler does not catch. */
export function maySucceedLater<T> (error: T): T {
  return Object.assign(error as object, { statusCode: 503, headers: { 'retry-after': '1' } }) as T
}

/** Any value can be thrown: wraps one that is not an Error, because Fastify's response needs one. */
export function asError (reason: unknown): Error & { statusCode?: number } {
  return reason instanceof Error ? reason : transactionAborted(reason)
}
