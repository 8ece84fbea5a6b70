import {
  type DatabaseConnection, type Dialect, type Driver, PostgresAdapter, PostgresIntrospector, PostgresQueryCompiler
} from 'kysely'

// They keep nothing between two statements, so all instances share them.
export const compiler = new PostgresQueryCompiler()
export const adapter = new PostgresAdapter()

/**
 * The driver that Kysely asks for where an instance is built. Nothing begins or ends there: the transactions of
 * SessionKysely belong to the session, and so does its end.
 */
export const noDriver: Driver = {
  init: async () => {},
  acquireConnection: () => refused<DatabaseConnection>(),
  beginTransaction: () => refused(),
  commitTransaction: () => refused(),
  rollbackTransaction: () => refused(),
  releaseConnection: async () => {},
  destroy: async () => {}
}

function refused<T = void> (): Promise<T> {
  const message = 'Use db.transaction() or db.startTransaction(): this driver is never asked directly.'
  return Promise.reject(new Error(message))
}

export const dialect: Dialect = {
  createAdapter: () => adapter,
  createDriver: () => noDriver,
  createIntrospector: (db) => new PostgresIntrospector(db),
  createQueryCompiler: () => compiler
}
