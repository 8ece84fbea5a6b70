import pg from 'pg'
import { isLoginFailure } from './login.ts'

export type FailureKind =
  | 'connection-lost'
  | 'serialization'
  | 'constraint'
  | 'aborted-transaction'
  | 'canceled'
  | 'login'
  | 'too-many-connections'
  | 'other'

/**
 * The kind of failure by SQLSTATE, or by its class of two characters
 * (https://www.postgresql.org/docs/current/errcodes-appendix.html).
 */
const kinds: Record<string, FailureKind> = {
  '08': 'connection-lost',
  '57P01': 'connection-lost', // admin_shutdown: pg_terminate_backend, or a fast shutdown
  '57P02': 'connection-lost', // crash_shutdown
  '57P03': 'connection-lost', // cannot_connect_now: starting up, or shutting down
  '57P05': 'connection-lost', // idle_session_timeout
  '25P03': 'connection-lost', // idle_in_transaction_session_timeout: FATAL
  '25P04': 'connection-lost', // transaction_timeout: FATAL
  40001: 'serialization',
  '40P01': 'serialization', // deadlock_detected: the remedy is the same
  23: 'constraint',
  '25P02': 'aborted-transaction',
  57014: 'canceled',
  28: 'login',
  '3D': 'login', // unknown database
  53300: 'too-many-connections'
}

/**
 * PgBouncer reports nearly every error as 08P01; version 1.18 also PostgreSQL's login errors. Only their texts differ.
 */
const poolerWords: readonly [RegExp, FailureKind][] = [
  [/^no more connections allowed/, 'too-many-connections'], // max_client_conn
  [/^(?:too many connections for |sorry, too many clients|remaining connection slots)/, 'too-many-connections'],
  [/^no such (?:database|user)/, 'login'],
  [/^(?:database|role) ".*" (?:does not exist|is not permitted to log in)/, 'login'],
  [/^permission denied for database/, 'login'],
  [/authentication failed/, 'login']
]

export function failureKind (error: unknown): FailureKind {
  if (error instanceof pg.DatabaseError) {
    if (error.code === '08P01') {
      const found = poolerWords.find(([words]) => words.test(error.message))
      if (found !== undefined) return found[1]
    }
    const known = error.code === undefined ? undefined : kinds[error.code] ?? kinds[error.code.slice(0, 2)]
    if (known === 'login' || known === 'too-many-connections') return known
    // 42501 of a statement does not end the connection. With FATAL, the privilege to connect is missing.
    if (endsConnection(error)) return error.code === '42501' ? 'login' : 'connection-lost'
    return known ?? 'other'
  }
  if (isLoginFailure(error)) return 'login'
  // Every other error of pg without a SQLSTATE comes from the socket: ECONNRESET, EPIPE, "Connection terminated
  // unexpectedly".
  return 'connection-lost'
}

/**
 * FATAL and PANIC end the connection, whatever the SQLSTATE
 * (https://www.postgresql.org/docs/current/runtime-config-logging.html).
 */
export function endsConnection ({ severity }: pg.DatabaseError): boolean {
  return severity === 'FATAL' || severity === 'PANIC'
}

/** An error is followed this far along its causes, which may form a circle. */
const deepest = 20

/**
 * The SQLSTATE of the serialization failure or deadlock behind an error, or null: libraries wrap the error of pg, and
 * may bring a pg of their own.
 */
export function conflictIn (error: unknown): '40001' | '40P01' | null {
  let each = error as { code?: unknown, cause?: unknown } | null | undefined
  for (let depth = 0; depth < deepest && typeof each === 'object' && each !== null; depth++) {
    const { code } = each
    if (code === '40001' || code === '40P01') return code
    each = each.cause as typeof each
  }
  return null
}

/** "cached plan must not change result type": its SQLSTATE, 0A000, is that of all unsupported features. */
export function isStalePlan (error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.code === '0A000' && error.routine === 'RevalidateCachedQuery'
}

/** The prepared statement does not exist: it was dropped. */
export function isMissing (error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.code === '26000'
}

/** A prepared statement of that name already exists: another client made it, on a shared server connection. */
export function isDuplicate (error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.code === '42P05'
}

/**
 * SQLSTATE classes of errors of Parse and Bind: features, values, constraints of a domain, names and types, objects
 * that were replaced.
 */
const refusedBeforeRun = /^(?:0A|22|23|26|42|XX)/

/** The error may be due to preparing: the same text may succeed if it is parsed again. */
export function mayComeOfPreparing (error: unknown): boolean {
  return error instanceof pg.DatabaseError && refusedBeforeRun.test(error.code ?? '')
}

/**
 * transaction_timeout, or PgBouncer's query_wait_timeout: the connection was alive, so a retry would probably time
 * out, too.
 */
export function ranOutOfTime (error: unknown): boolean {
  return error instanceof pg.DatabaseError && (error.code === '25P04' || error.message.startsWith('query_wait_timeout'))
}

/** PgBouncer failed before a server received the statement. */
const neverSent = /^(?:query_wait_timeout|client_idle_timeout|invalid server parameter|server login has been failing)/

/** PgBouncer has no server connection, and its last login to PostgreSQL failed. */
export function hasNoServer (error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.code === '08P01' &&
    error.message.startsWith('server login has been failing')
}

/**
 * The server announced that it closes the connection, after all answers to the statement. PgBouncer's own "server
 * conn crashed?" is different: answers of the server may be lost with it.
 */
export function isFarewell (error: unknown): boolean {
  if (!(error instanceof pg.DatabaseError) || !endsConnection(error)) return false
  return !error.code?.startsWith('08') || neverSent.test(error.message)
}

/** A write in a transaction that may not write, as its server is a standby or is read-only by default. */
export function isReadOnlyRefusal (error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.code === '25006'
}

/**
 * Failures of a read on a hot standby that the primary may not have: a conflict with recovery
 * (https://www.postgresql.org/docs/current/hot-standby.html#HOT-STANDBY-CONFLICT), what no standby can do, and an object
 * whose creation the standby has not replayed.
 */
const ofStandby = new Set([
  '40001', '40P01', // canceled, as it was in the way of recovery
  '25006', '0A000', '55000', // not during recovery
  '42P01', '42703', '42704', '42883', '3F000' // no such table, column, type, function, schema
])

/** Whether a read that failed on a standby may succeed on the primary. */
export function mayBeOfStandby (error: unknown): boolean {
  return error instanceof pg.DatabaseError && ofStandby.has(error.code ?? '')
}
