import createError, { type FastifyError, type FastifyErrorConstructor } from '@fastify/error'
import { kindOf } from './kind-of.ts'
import { statementProperty } from './statement-error.ts'

/** Every error code of this package and its HTTP status. docs/errors.md has a section for each. */
const statusOf = {
  FST_PG_SCOPE_OPTIONS: 500,
  FST_PG_SCOPE_DRIVER: 500,
  FST_PG_SCOPE_DECORATOR_TAKEN: 500,
  FST_PG_SCOPE_UNREACHABLE: 503,
  FST_PG_SCOPE_LOGIN_REFUSED: 503,
  FST_PG_SCOPE_NO_REPLICA: 503,
  FST_PG_SCOPE_POOL_EXHAUSTED: 503,
  FST_PG_SCOPE_POOL_QUEUE_FULL: 503,
  FST_PG_SCOPE_POOL_DEADLOCK: 503,
  FST_PG_SCOPE_POOLER_UNSUPPORTED: 500,
  FST_PG_SCOPE_CLOSED: 503,
  FST_PG_SCOPE_SESSION_CLOSED: 500,
  FST_PG_SCOPE_SESSION_STATE: 500,
  FST_PG_SCOPE_NO_SESSION: 500,
  FST_PG_SCOPE_QUERY_INVALID: 500,
  FST_PG_SCOPE_TRANSACTION_CONTROL: 500,
  FST_PG_SCOPE_TRANSACTION_ABORTED: 500,
  FST_PG_SCOPE_CANCELED: 503,
  FST_PG_SCOPE_CONNECTION_LOST: 503,
  FST_PG_SCOPE_LOCK_NOT_AVAILABLE: 503,
  FST_PG_SCOPE_LOCK_LOST: 503,
  FST_PG_SCOPE_CONSTRAINT_VIOLATION: 409,
  FST_PG_SCOPE_SERIALIZATION_FAILURE: 503,
  FST_PG_SCOPE_COMMIT_FAILED: 500,
  FST_PG_SCOPE_COMMIT_UNKNOWN: 500,
  FST_PG_SCOPE_ANSWER_FAILED: 500,
  FST_PG_SCOPE_IDEMPOTENCY_KEY: 400,
  FST_PG_SCOPE_IDEMPOTENCY_CONFLICT: 409,
  FST_PG_SCOPE_IDEMPOTENCY_MISMATCH: 422,
  FST_PG_SCOPE_IDEMPOTENCY_ANSWER: 500,
  FST_PG_SCOPE_EMBEDDED: 500,
  FST_PG_SCOPE_TESTING: 500
} as const

export type PgScopeErrorCode = keyof typeof statusOf

/**
 * An error of this package. Fastify answers with `statusCode`, and its default error handler also sends `headers`.
 * `message` names the code and contains nothing that an anonymous client must not read; at startup it equals `details`.
 */
export interface PgScopeError extends FastifyError {
  code: PgScopeErrorCode
  /**
   * What was wrong and what to do, for logs and developers. May name the host, the database, a statement or an
   * option.
   */
  readonly details: string
  cause?: unknown
  headers?: { 'retry-after': string }
  /**
   * The text of the failed statement, if any; never its values. For logs: not an own property, so no response
   * includes it.
   */
  readonly statement?: string | undefined
}

/** Errors after which a client may retry: seconds for the Retry-After header (RFC 9110, section 10.2.3). */
const retryAfter: Partial<Record<PgScopeErrorCode, string>> = {
  FST_PG_SCOPE_UNREACHABLE: '1',
  FST_PG_SCOPE_LOGIN_REFUSED: '5',
  FST_PG_SCOPE_NO_REPLICA: '1',
  FST_PG_SCOPE_POOL_EXHAUSTED: '1',
  FST_PG_SCOPE_POOL_QUEUE_FULL: '1',
  FST_PG_SCOPE_POOL_DEADLOCK: '1',
  FST_PG_SCOPE_CLOSED: '1',
  FST_PG_SCOPE_CONNECTION_LOST: '1',
  FST_PG_SCOPE_LOCK_NOT_AVAILABLE: '1',
  FST_PG_SCOPE_LOCK_LOST: '1',
  FST_PG_SCOPE_SERIALIZATION_FAILURE: '1',
  FST_PG_SCOPE_IDEMPOTENCY_CONFLICT: '1'
}

/** What a client needs to know in addition to the code and the status. */
const publicSentences: Partial<Record<PgScopeErrorCode, string>> = {
  FST_PG_SCOPE_TRANSACTION_ABORTED: 'The transaction failed; none of it is saved.',
  FST_PG_SCOPE_CONNECTION_LOST: 'Nothing of this transaction is saved; try again.',
  FST_PG_SCOPE_CONSTRAINT_VIOLATION: 'The request conflicts with other data; nothing is saved.',
  FST_PG_SCOPE_SERIALIZATION_FAILURE: 'The request conflicts with another one; nothing is saved, try again.',
  FST_PG_SCOPE_COMMIT_FAILED: 'The transaction failed; none of it is saved.',
  FST_PG_SCOPE_COMMIT_UNKNOWN: 'The work may be saved or not.',
  FST_PG_SCOPE_IDEMPOTENCY_KEY: 'This request needs a valid idempotency key of its own.',
  FST_PG_SCOPE_IDEMPOTENCY_CONFLICT: 'The first request with this idempotency key is still in progress; try again.',
  FST_PG_SCOPE_IDEMPOTENCY_MISMATCH: 'This idempotency key belongs to another request.',
  FST_PG_SCOPE_ANSWER_FAILED: 'The work is saved, but its answer could not be sent.'
}

/** Codes of tools for development and tests: their errors never reach a client. */
const forDevelopers: ReadonlySet<PgScopeErrorCode> = new Set(['FST_PG_SCOPE_EMBEDDED', 'FST_PG_SCOPE_TESTING'])

function publicMessage (code: PgScopeErrorCode): string {
  const fallback = statusOf[code] === 503 ? 'Not available now; try again later.' : 'The request failed.'
  return `${code}: ${publicSentences[code] ?? fallback}`
}

const detailsKey = Symbol('details')
const constructors = Object.fromEntries(
  Object.entries(statusOf).map(([code, status]) => [code, withDetails(createError<[string]>(code, '%s', status))])
) as Record<PgScopeErrorCode, FastifyErrorConstructor<{ code: string }, [string]>>

/** `details` is enumerable on the prototype: pino's serializer writes it; JSON.stringify() and a spread omit it. */
function withDetails<T extends { prototype: object }> (constructor: T): T {
  Object.defineProperty(constructor.prototype, 'details', {
    enumerable: true,
    get (this: { [detailsKey]?: string }) { return this[detailsKey] }
  })
  return constructor
}

for (const { prototype } of Object.values(constructors)) {
  Object.defineProperty(prototype, 'statement', statementProperty)
}

/**
 * Creates an error of this package.
 *
 * @param details what was wrong, what is allowed and what to do; never a password or a parameter's value. The stack
 * and the log contain it; the message, which handlers often send to clients, does not
 * @param cause the original error from pg or Node
 */
export function pgScopeError (code: PgScopeErrorCode, details: string, cause?: unknown): PgScopeError {
  const error = new constructors[code](details) as PgScopeError
  // V8 formats the stack on first access, with the message of that moment: read it now, while the message is `details`.
  hide(error, 'stack', error.stack)
  hide(error, detailsKey, details)
  if (cause !== undefined) hide(error, 'cause', cause)
  if (!forDevelopers.has(code)) error.message = publicMessage(code)
  const seconds = retryAfter[code]
  if (seconds !== undefined) error.headers = { 'retry-after': seconds }
  return error
}

/** Defines a property like an error's `cause`: readable, but not copied or stringified with the error. */
function hide (error: Error, name: PropertyKey, value: unknown): void {
  Object.defineProperty(error, name, { value, configurable: true, enumerable: false, writable: true })
}

/**
 * Sets the message to the details, for errors that only developers read: at startup, and with the option
 * `exposeErrors`.
 */
export function exposeDetails<T> (error: T): T {
  if (isPgScopeError(error) && error.details !== undefined) error.message = error.details
  return error
}

/**
 * The error for an argument that is not a function.
 *
 * @param caller the method as the user wrote it: `scope`
 */
export function noFunction (caller: string, value: unknown): PgScopeError {
  const details = `\`${caller}(fn)\`: \`fn\` must be a function, got ${kindOf(value)}.`
  return pgScopeError('FST_PG_SCOPE_QUERY_INVALID', details)
}

/** True for an error of this package, also when two copies of the package are loaded. */
export function isPgScopeError (error: unknown): error is PgScopeError {
  return error instanceof Error && typeof (error as PgScopeError).code === 'string' &&
    Object.hasOwn(statusOf, (error as PgScopeError).code)
}

/**
 * Whether a call was rejected because its session, transaction or engine has ended or was canceled, not because it
 * was invalid.
 */
export function isClosedOrCanceled (error: unknown): boolean {
  if (!isPgScopeError(error)) return false
  const { code } = error
  return code === 'FST_PG_SCOPE_SESSION_CLOSED' || code === 'FST_PG_SCOPE_CANCELED' || code === 'FST_PG_SCOPE_CLOSED'
}
