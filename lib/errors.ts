import createError, { type FastifyError, type FastifyErrorConstructor } from '@fastify/error'
import { statementProperty } from './statement-error.ts'

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
  FST_PG_SCOPE_ANSWER_FAILED: 500,
  FST_PG_SCOPE_EMBEDDED: 500
} as const

export type PgScopeErrorCode = keyof typeof statusOf

/**
 * An error of this package. `statusCode` is what Fastify answers with; `headers` are sent along by Fastify's own error handler.
 * `message` names the code and says nothing that an anonymous client should not read; at startup it is `details`.
 */
export interface PgScopeError extends FastifyError {
  code: PgScopeErrorCode
  /** What was wrong, and what to do, for the log and the developer. May name the host, the database, a statement or an option. */
  readonly details: string
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

/** What a client needs to know besides the code, where the status alone does not say it. */
const publicSentences: Partial<Record<PgScopeErrorCode, string>> = {
  FST_PG_SCOPE_TRANSACTION_ABORTED: 'The transaction failed; none of it is saved.',
  FST_PG_SCOPE_CONNECTION_LOST: 'Nothing of this transaction is saved; try again.',
  FST_PG_SCOPE_CONSTRAINT_VIOLATION: 'The request conflicts with other data; nothing is saved.',
  FST_PG_SCOPE_SERIALIZATION_FAILURE: 'The request conflicts with another one; nothing is saved, try again.',
  FST_PG_SCOPE_COMMIT_FAILED: 'The transaction failed; none of it is saved.',
  FST_PG_SCOPE_COMMIT_UNKNOWN: 'The work may be saved or not.',
  FST_PG_SCOPE_ANSWER_FAILED: 'The work is saved, but its answer could not be sent.'
}

function publicMessage (code: PgScopeErrorCode): string {
  return `${code}: ${publicSentences[code] ?? (statusOf[code] === 503 ? 'Not available now; try again later.' : 'The request failed.')}`
}

const detailsKey = Symbol('details')
const constructors = Object.fromEntries(
  Object.entries(statusOf).map(([code, status]) => [code, withDetails(createError<[string]>(code, '%s', status))])
) as Record<PgScopeErrorCode, FastifyErrorConstructor<{ code: string }, [string]>>

/** `details` is enumerable on the prototype: pino's serializer writes it, while JSON.stringify() and a spread leave it out. */
function withDetails<T extends { prototype: object }> (constructor: T): T {
  Object.defineProperty(constructor.prototype, 'details', {
    enumerable: true,
    get (this: { [detailsKey]?: string }) { return this[detailsKey] }
  })
  return constructor
}

for (const { prototype } of Object.values(constructors)) Object.defineProperty(prototype, 'statement', statementProperty)

/**
 * Makes an error of this package.
 *
 * @param details what was wrong, what is allowed and what to do; never a password, never a parameter's value. The stack and the
 * log show it; the message, which handlers like to send to clients, does not
 * @param cause the error behind it, as it came from pg or from Node
 */
export function pgScopeError (code: PgScopeErrorCode, details: string, cause?: unknown): PgScopeError {
  const error = new constructors[code](details) as PgScopeError
  // A stack begins with the message at the time when it is first read: here, so that it shows the details.
  hide(error, 'stack', error.stack)
  hide(error, detailsKey, details)
  if (cause !== undefined) hide(error, 'cause', cause)
  // startPostgres() is for development: no client reads its errors.
  if (code !== 'FST_PG_SCOPE_EMBEDDED') error.message = publicMessage(code)
  const seconds = retryAfter[code]
  if (seconds !== undefined) error.headers = { 'retry-after': seconds }
  return error
}

/** As the cause of any error is: there for those who ask for it, and not for whoever copies or stringifies the error. */
function hide (error: Error, name: PropertyKey, value: unknown): void {
  Object.defineProperty(error, name, { value, configurable: true, enumerable: false, writable: true })
}

/** Puts the details into the message, for an error that only developers read: at startup, and with the option exposeErrors. */
export function exposeDetails<T> (error: T): T {
  if (isPgScopeError(error) && error.details !== undefined) error.message = error.details
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

/** Whether a call was rejected because its session, transaction or engine has ended or was canceled, and not because the call was wrong. */
export function isClosedOrCanceled (error: unknown): boolean {
  return isPgScopeError(error) && (error.code === 'FST_PG_SCOPE_SESSION_CLOSED' || error.code === 'FST_PG_SCOPE_CANCELED' || error.code === 'FST_PG_SCOPE_CLOSED')
}
