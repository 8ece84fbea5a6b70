import { pgScopeError } from '../errors.ts'

export interface BatchFailure {
  readonly error: unknown
  /**
   * The index of the failed statement. Statements before it were answered unless `unsent`; statements after it never
   * ran.
   */
  readonly statement: number
  /** Nothing of the batch was sent, because this statement could not be written. */
  readonly unsent: boolean
  /** The connection is lost, and the transaction with it. */
  lost: boolean
  /** How many statements from the start of the batch may have run. The server certainly began none of the others. */
  readonly begun: number
  /** A prepared statement failed before it ran, possibly only because it is prepared: it may succeed unprepared. */
  readonly unprepared: boolean
}

/**
 * The failure of a batch that could not be written, usually for lack of memory: values that are too large are rejected
 * earlier.
 */
export function unsentBatch (statement: number, cause: unknown): BatchFailure {
  const message = 'The statement could not be written, so nothing of its batch was sent.'
  const error = pgScopeError('FST_PG_SCOPE_QUERY_INVALID', message, cause)
  return { error, statement, unsent: true, lost: false, begun: 0, unprepared: false }
}
