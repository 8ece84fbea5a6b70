import type { CustomTypesConfig, DatabaseError, QueryArrayResult, QueryResult, QueryResultRow } from 'pg'

export type { QueryArrayResult, QueryResult, QueryResultRow }

/** A statement as an object: the part of pg's QueryConfig that a session understands. */
export interface StatementConfig {
  /** The SQL text. Parameters stand as $1, $2, … */
  text: string
  /** One value for each parameter. Converted by pg's own rules when the statement is called, not when it is sent. */
  values?: readonly unknown[] | undefined
  /** Prepares the statement under this name on the connection; the same name must always carry the same text. */
  name?: string | undefined
  /**
   * false: the statement is parsed each time, however often it is used. Otherwise the plugin prepares by itself what is used often
   * (`preparedStatements`); true is the same as leaving it out. Default true.
   */
  prepare?: boolean | undefined
  /** 'array' gives rows as arrays instead of objects. */
  rowMode?: 'array' | undefined
  /** Type parsers for this statement alone, as in pg. */
  types?: CustomTypesConfig | undefined
  /**
   * Stops this statement: it is not sent any more, or cancelled on the server if it runs, and rejects with FST_PG_SCOPE_CANCELED, whose
   * `cause` is the signal's reason. In a transaction the session has failed then. Once the statement is answered an abort does nothing.
   * A statement with a signal shares its round trip with no other one.
   */
  signal?: AbortSignal | undefined
}

/** What a statement that the server refused rejects with: pg's own error, which knows its statement. */
export interface StatementError extends DatabaseError {
  /**
   * The text of the statement that failed, as it was written; never its values. pino logs it. It is not an own property, so that
   * JSON.stringify and Fastify's error handler leave it out.
   */
  readonly statement: string
  /** Counted in `statement`, from 1 on, also for a stream(). */
  position: string | undefined
}

export interface Queryable {
  /**
   * Sends one statement.
   *
   * A text without values may hold several statements separated by semicolons; the answer is then an array of results, as in pg.
   *
   * @throws pg's DatabaseError as it came from the server (`code` is the SQLSTATE): {@link StatementError}
   * @throws FST_PG_SCOPE_QUERY_INVALID for a text that is not a string, values that are not an array, a value that cannot be sent, a callback, or a config with other fields than {@link StatementConfig}
   * @throws FST_PG_SCOPE_TRANSACTION_CONTROL for BEGIN, COMMIT, ROLLBACK and their kin: the session sends these itself
   * @throws FST_PG_SCOPE_POOL_EXHAUSTED, FST_PG_SCOPE_POOL_QUEUE_FULL, FST_PG_SCOPE_UNREACHABLE, FST_PG_SCOPE_LOGIN_REFUSED when no connection could be had
   * @throws FST_PG_SCOPE_CONNECTION_LOST when the connection died before the answer
   * @throws FST_PG_SCOPE_CANCELED when its `signal` was aborted; FST_PG_SCOPE_COMMIT_UNKNOWN when a statement that commits by itself was sent and its answer never came
   */
  query<R extends QueryResultRow = any> (text: string, values?: readonly unknown[]): Promise<QueryResult<R>>
  query<R extends any[] = any[]> (config: StatementConfig & { rowMode: 'array' }): Promise<QueryArrayResult<R>>
  query<R extends QueryResultRow = any> (config: StatementConfig & { rowMode?: undefined }): Promise<QueryResult<R>>
  query (config: StatementConfig): Promise<QueryResult<any> | QueryArrayResult<any>>
}
