import type { CustomTypesConfig, DatabaseError, QueryArrayResult, QueryResult, QueryResultRow } from 'pg'

export type { QueryArrayResult, QueryResult, QueryResultRow }

/** A statement as an object: the fields of pg's QueryConfig that a session supports. */
export interface StatementConfig {
  /** The SQL text, with parameters as $1, $2, … */
  text: string
  /** One value for each parameter. Converted by pg's rules when query() is called, not when the statement is sent. */
  values?: readonly unknown[] | undefined
  /** Prepares the statement under this name on the connection; the same name must always carry the same text. */
  name?: string | undefined
  /**
   * false: the statement is parsed each time. true (default): it may be prepared automatically once it is used often
   * (see `preparedStatements`).
   */
  prepare?: boolean | undefined
  /** 'array' gives rows as arrays instead of objects. */
  rowMode?: 'array' | undefined
  /** Type parsers for this statement alone, as in pg. */
  types?: CustomTypesConfig | undefined
  /**
   * Stops this statement: if it waits, it is never sent; if it runs, it is cancelled on the server. It rejects with
   * FST_PG_SCOPE_CANCELED, whose `cause` is the signal's reason, and a transaction has then failed. After the
   * statement is answered, an abort has no effect. A statement with a signal does not share its round trip with other
   * calls.
   */
  signal?: AbortSignal | undefined
}

/** The error of a statement that the server refused: pg's own, with the text of the statement. */
export interface StatementError extends DatabaseError {
  /**
   * The text of the statement that failed, as it was written, without its values. pino logs it. It is not an own
   * property, so JSON.stringify() and Fastify's error handler leave it out.
   */
  readonly statement: string
  /** The position in `statement`, counted from 1, also for stream(). */
  position: string | undefined
}

export interface Queryable {
  /**
   * Sends one statement.
   *
   * A text without values may hold several statements separated by semicolons. The result is then an array of
   * results, as in pg.
   *
   * @throws pg's DatabaseError when the server refuses the statement (`code` is the SQLSTATE): {@link StatementError}
   * @throws FST_PG_SCOPE_QUERY_INVALID for a text that is not a string, values that are not an array, a value that
   * cannot be sent, a callback, or a config with fields other than those of {@link StatementConfig}
   * @throws FST_PG_SCOPE_TRANSACTION_CONTROL for BEGIN, COMMIT, ROLLBACK, SAVEPOINT and similar: the session sends
   * these itself
   * @throws FST_PG_SCOPE_POOL_EXHAUSTED, FST_PG_SCOPE_POOL_QUEUE_FULL, FST_PG_SCOPE_POOL_DEADLOCK,
   * FST_PG_SCOPE_UNREACHABLE, FST_PG_SCOPE_LOGIN_REFUSED when it gets no connection
   * @throws FST_PG_SCOPE_CONNECTION_LOST when the connection was lost before the answer
   * @throws FST_PG_SCOPE_TRANSACTION_ABORTED when an earlier statement of the transaction failed;
   * FST_PG_SCOPE_SESSION_CLOSED after the end
   * @throws FST_PG_SCOPE_CANCELED when its `signal` was aborted; FST_PG_SCOPE_COMMIT_UNKNOWN when a statement that is
   * committed by itself was sent and never answered
   */
  query<R extends QueryResultRow = any> (text: string, values?: readonly unknown[]): Promise<QueryResult<R>>
  query<R extends any[] = any[]> (config: StatementConfig & { rowMode: 'array' }): Promise<QueryArrayResult<R>>
  query<R extends QueryResultRow = any> (config: StatementConfig & { rowMode?: undefined }): Promise<QueryResult<R>>
  query (config: StatementConfig): Promise<QueryResult<any> | QueryArrayResult<any>>
  /**
   * Sends a notification (https://www.postgresql.org/docs/current/sql-notify.html), as a statement like any other: in a
   * transaction it is delivered when that is committed, and only then. Works behind every pooler. `app.db.listen()`
   * receives it.
   *
   * @param channel 1 to 63 bytes; upper and lower case differ
   * @param payload less than 8000 bytes; none by default
   * @throws what query() throws
   */
  notify (channel: string, payload?: string): Promise<void>
}
