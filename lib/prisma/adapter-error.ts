import pg from 'pg'
import { isPgScopeError, type PgScopeError } from '../errors.ts'

/** What Prisma makes its error of: `kind` decides over its code, and `originalCode` is the SQLSTATE. */
interface Failure {
  kind: string
  originalCode?: string
  originalMessage?: string
  [field: string]: unknown
}

/** Prisma recognises it by its name, and has it as `meta.driverAdapterError` of its own error. */
export class DriverAdapterError extends Error {
  override readonly name = 'DriverAdapterError'
  override readonly cause: Failure

  constructor (cause: Failure) {
    super(typeof cause.originalMessage === 'string' ? cause.originalMessage : cause.kind)
    this.cause = cause
  }
}

/** The error that an adapter must throw in place of the session's. */
export function adapterErrorOf (error: unknown): unknown {
  if (error instanceof pg.DatabaseError) {
    const { code = 'N/A', message } = error
    return new DriverAdapterError({ originalCode: code, originalMessage: message, ...failureOf(error) })
  }
  return isPgScopeError(error) ? withoutCode(error) : error
}

/**
 * Prisma replaces an error that has a `code` with its own, which has no status. This one has the status, the headers
 * and the message of the plugin's, so that Fastify answers as it does without Prisma. `cause` is the plugin's.
 */
function withoutCode (cause: PgScopeError): Error {
  const { name, message, statusCode, headers } = cause
  const shown = headers === undefined ? { name, statusCode } : { name, statusCode, headers }
  return Object.assign(new Error(message, { cause }), shown)
}

function failureOf (error: pg.DatabaseError): Failure {
  const { code, message } = error
  switch (code) {
    case '22001': return { kind: 'LengthMismatch', column: error.column }
    case '22003': return { kind: 'ValueOutOfRange', cause: message }
    case '22P02': return { kind: 'InvalidInputValue', message }
    case '23505': return { kind: 'UniqueConstraintViolation', constraint: fieldsOf(error) ?? constraintOf(error) }
    case '23502': return { kind: 'NullConstraintViolation', constraint: columnOf(error) ?? fieldsOf(error) }
    case '23503': return { kind: 'ForeignKeyConstraintViolation', constraint: columnOf(error) ?? constraintOf(error) }
    case '3D000': return { kind: 'DatabaseDoesNotExist', db: quotedIn(message) }
    case '28000': return { kind: 'DatabaseAccessDenied', db: /database "([^"]+)"/.exec(message)?.[1] }
    case '28P01': return { kind: 'AuthenticationFailed', user: quotedIn(message) }
    case '40001':
    case '40P01': return { kind: 'TransactionWriteConflict' }
    case '42P01': return { kind: 'TableDoesNotExist', table: quotedIn(message) }
    case '42703': return { kind: 'ColumnNotFound', column: /^column (.+) does not exist$/.exec(message)?.[1]?.replaceAll('"', '') }
    case '42P04': return { kind: 'DatabaseAlreadyExists', db: quotedIn(message) }
    case '53300': return { kind: 'TooManyConnections', cause: message }
    default: return {
      kind: 'postgres',
      code: code ?? 'N/A',
      severity: error.severity ?? 'N/A',
      message,
      detail: error.detail,
      column: error.column,
      hint: error.hint,
      // Prisma does not read it. A handler of errors finds it, of a CHECK or an exclusion.
      constraint: error.constraint
    }
  }
}

/** From `Key (a, "B")=(1, 2) already exists.`, unless the key has an expression. */
function fieldsOf ({ detail }: pg.DatabaseError): { fields: string[] } | undefined {
  const key = /^Key \((.+?)\)=\(/.exec(detail ?? '')?.[1]
  if (key === undefined || key.includes('(')) return undefined
  return { fields: key.split(', ').map((field) => field.replaceAll('"', '')) }
}

function columnOf ({ column }: pg.DatabaseError): { fields: string[] } | undefined {
  return column === undefined ? undefined : { fields: [column] }
}

function constraintOf ({ constraint }: pg.DatabaseError): { index: string } | undefined {
  return constraint === undefined ? undefined : { index: constraint }
}

function quotedIn (message: string): string | undefined {
  return /"([^"]+)"/.exec(message)?.[1]
}
