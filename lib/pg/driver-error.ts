import pg from 'pg'
import { isPgScopeError } from '../errors.ts'

/** The error of a real COMMIT as pg reports it: libraries look for its SQLSTATE, to try again for example. */
export function asDriverError (error: unknown): unknown {
  return isPgScopeError(error) && error.cause instanceof pg.DatabaseError ? error.cause : error
}
