import { drizzle, NodePgSession, NodePgTransaction } from 'drizzle-orm/node-postgres'
import type { PgTransactionConfig } from 'drizzle-orm/pg-core'
import { isPgScopeError } from '../errors.ts'
import { type LibrarySource, runTransaction, targetOf, type TransactionModes } from '../library-source.ts'

/** A session of Drizzle's driver for pg. Its declarations differ between the versions that are supported. */
interface DriverSession {
  readonly dialect: unknown
  /** Drizzle 0.45: the tables. */
  readonly schema?: unknown
  /** Drizzle 1.0: the tables and their relations. */
  readonly relations?: unknown
  readonly options: unknown
  prepareQuery (...args: unknown[]): { execute (values?: unknown): Promise<unknown> }
  transaction (fn: (tx: DriverTransaction) => unknown, config?: PgTransactionConfig): Promise<unknown>
}

type DriverTransaction = Pick<DriverSession, 'transaction'>

const Session = NodePgSession as unknown as new (
  client: unknown, dialect: unknown, tables: unknown, options: unknown
) => DriverSession
const Transaction = NodePgTransaction as unknown as new (
  dialect: unknown, session: DriverSession, tables: unknown, nestedIndex: number, needsRollback: boolean
) => DriverTransaction

export function databaseOn (source: LibrarySource, config: object): unknown {
  const db = drizzle({ ...config, client: clientOn(source) as never }) as unknown as { session: DriverSession }
  adapt(db.session, source)
  return db
}

/** As much of a pg client as Drizzle's driver uses once its transactions are not its own. */
function clientOn (source: LibrarySource): object {
  return {
    query: (config: { text: string }, values?: readonly unknown[]) => targetOf(source).query({ ...config, values })
  }
}

/** Makes a session of the driver begin its transactions on the source. */
function adapt (session: DriverSession, source: LibrarySource): void {
  const prepareQuery = session.prepareQuery
  session.prepareQuery = (...args) => {
    const query = prepareQuery.apply(session, args)
    const execute = query.execute
    query.execute = (values) => execute.call(query, values).catch(throwUnwrapped)
    return query
  }
  // fn runs inside of transaction(fn), so calls on the outer database belong to the transaction too.
  session.transaction = (fn, config) => runTransaction(source, modesOf(config), (nested) => {
    const tables = session.schema ?? session.relations
    const inner = new Session(clientOn(nested), session.dialect, tables, session.options)
    adapt(inner, nested)
    const transaction = new Transaction(session.dialect, inner, tables, 0, false)
    transaction.transaction = inner.transaction
    return fn(transaction)
  })
}

function modesOf ({ isolationLevel, accessMode, deferrable }: PgTransactionConfig = {}): TransactionModes {
  return {
    isolation: isolationLevel,
    readOnly: accessMode === undefined ? undefined : accessMode === 'read only',
    deferrable
  }
}

/** An error of the plugin has a status and a safe message, which Drizzle's own error around it would hide. */
function throwUnwrapped (error: unknown): never {
  const cause = error instanceof Error ? error.cause : undefined
  if (isPgScopeError(cause)) throw cause
  if (error instanceof Error && 'query' in error && 'params' in error) hideValues(error as QueryError)
  throw error
}

/** Drizzle's DrizzleQueryError. */
interface QueryError extends Error {
  readonly query: string
  readonly params: unknown
}

/** Fastify sends the message of an error to the client, and a logger writes its stack and its enumerable properties. */
function hideValues (error: QueryError): void {
  const { message, query, params } = error
  error.message = `Failed query: ${query}`
  if (error.stack !== undefined) error.stack = error.stack.replace(message, () => error.message)
  Object.defineProperty(error, 'params', { value: params, configurable: true, enumerable: false, writable: true })
}
