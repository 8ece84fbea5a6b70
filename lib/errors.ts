import createError, { type FastifyError, type FastifyErrorConstructor } from '@fastify/error'
import { statementProperty } from './postgres/statement-error.ts'

/** Every code that this package raises, with the HTTP status that goes with it. docs/errors.md has a section for each. */
const statusOf = {
  FST_PG_SCOPE_OPTIONS: 500,
  FST_PG_SCOPE_DECORATOR_TAKEN: 500,
  FST_PG_SCOPE_UNREACHABLE: 503,
  FST_PG_SCOPE_LOGIN_REFUSED: 503,
  FST_PG_SCOPE_POOL_EXHAUSTED: 503,
  FST_PG_SCOPE_POOL_QUEUE_FULL: 503,
  FST_PG_SCOPE_POOL_DEADLOCK: 503,
  FST_PG_SCOPE_POOLER_UNSUPPORTED: 500,
  FST_PG_SCOPE_CLOSED: 503,
  FST_PG_SCOPE_SESSION_CLOSED: 500,
  FST_PG_SCOPE_SESSION_STATE: 500,
  FST_PG_SCOPE_QUERY_INVALID: 500,
  FST_PG_SCOPE_TRANSACTION_CONTROL: 500,
  FST_PG_SCOPE_TRANSACTION_ABORTED: 500,
  FST_PG_SCOPE_CANCELED: 503,
  FST_PG_SCOPE_CONNECTION_LOST: 503,
  FST_PG_SCOPE_CONSTRAINT_VIOLATION: 409,
  FST_PG_SCOPE_SERIALIZATION_FAILURE: 503,
  FST_PG_SCOPE_COMMIT_FAILED: 500,
  FST_PG_SCOPE_COMMIT_UNKNOWN: 500,
  FST_PG_SCOPE_EMBEDDED: 500
} as const

export type PgScopeErrorCode = keyof typeof statusOf

/** An error of this package. `statusCode` is what Fastify answers with; `headers` are sent along by Fastify's own error handler. */
export interface PgScopeError extends FastifyError {
  code: PgScopeErrorCode
  cause?: unknown
  headers?: { 'retry-after': string }
  /** The text of the statement that failed, where it was one; never its values. For the log: not an own property, so that it is not sent along. */
  readonly statement?: string | undefined
}

/** Those that a client may simply try again: seconds for the Retry-After header (RFC 9110, section 10.2.3). */
const retryAfter: Partial<Record<PgScopeErrorCode, string>> = {
  FST_PG_SCOPE_UNREACHABLE: '1',
  FST_PG_SCOPE_LOGIN_REFUSED: '5',
  FST_PG_SCOPE_POOL_EXHAUSTED: '1',
  FST_PG_SCOPE_POOL_QUEUE_FULL: '1',
  FST_PG_SCOPE_POOL_DEADLOCK: '1',
  FST_PG_SCOPE_CLOSED: '1',
  FST_PG_SCOPE_CONNECTION_LOST: '1',
  FST_PG_SCOPE_SERIALIZATION_FAILURE: '1'
}

const constructors = Object.fromEntries(
  Object.entries(statusOf).map(([code, status]) => [code, createError<[string, object?]>(code, '%s', status)])
) as Record<PgScopeErrorCode, FastifyErrorConstructor<{ code: string }, [string, object?]>>

for (const { prototype } of Object.values(constructors)) Object.defineProperty(prototype, 'statement', statementProperty)

/**
 * Makes an error of this package.
 *
 * @param message what was expected, what came and what to do; never a password, never a parameter's value
 * @param cause the error behind it, as it came from pg or from Node
 */
export function pgScopeError (code: PgScopeErrorCode, message: string, cause?: unknown): PgScopeError {
  const error = new constructors[code](message, ...(cause === undefined ? [] : [{ cause }])) as PgScopeError
  const seconds = retryAfter[code]
  if (seconds !== undefined) error.headers = { 'retry-after': seconds }
  return error
}

/** For whoever wanted a function. @param caller as the user wrote it: `scope` */
export function noFunction (caller: string, came: unknown): PgScopeError {
  return pgScopeError('FST_PG_SCOPE_QUERY_INVALID', `${caller}() takes a function, and ${came === null ? 'null' : typeof came} came.`)
}

/** True for an error that this package made, also across two copies of it. */
export function isPgScopeError (error: unknown): error is PgScopeError {
  return error instanceof Error && typeof (error as PgScopeError).code === 'string' &&
    Object.hasOwn(statusOf, (error as PgScopeError).code)
}
