import type { Readable } from 'node:stream'
import type { Queryable, StatementConfig } from './query.ts'

export type SessionState = 'idle' | 'opening' | 'active' | 'failed' | 'settling' | 'closed'

export interface StreamOptions {
  /** Rows that one FETCH brings; at most three times as many are in memory. Default 500. */
  batchSize?: number | undefined
}

/** The rows of one SELECT, in constant memory: an async iterable and an object-mode Readable. Sent as a reply it becomes NDJSON. */
export interface RowStream<R = any> extends Readable {
  [Symbol.asyncIterator] (): NodeJS.AsyncIterator<R>
}

/** One unit of work. `request.db` is one. */
export interface Session extends Queryable {
  /**
   * Rows as a stream, by DECLARE CURSOR and FETCH in this session's transaction
   * (https://www.postgresql.org/docs/current/sql-declare.html): SELECT and VALUES only.
   * Sent as a reply, the transaction stays open until the last row has been read.
   *
   * It takes the same config as query(). `rowMode` and `types` hold for its rows; `name` is refused, as a cursor is declared anew each
   * time, and `prepare` changes nothing. What is refused is an error of the stream. `signal` ends the stream with FST_PG_SCOPE_CANCELED,
   * as long as not all of its rows have come.
   */
  stream<R extends any[] = any[]> (config: StatementConfig & { rowMode: 'array' }, options?: StreamOptions): RowStream<R>
  stream<R = any> (config: StatementConfig & { rowMode?: undefined }, options?: StreamOptions): RowStream<R>
  stream<R = any> (text: string, values?: readonly unknown[], options?: StreamOptions): RowStream<R>
  /**
   * A transaction inside the transaction: a savepoint, released when fn resolves, rolled back to when it rejects.
   * Calls nest to any depth, also through functions that know nothing of each other. Statements from outside wait for its end.
   */
  transaction<T> (fn: (session: Session) => Promise<T> | T): Promise<T>
  /**
   * Commits now; the next statement begins another transaction.
   *
   * @throws FST_PG_SCOPE_CONSTRAINT_VIOLATION (409), FST_PG_SCOPE_SERIALIZATION_FAILURE (503), FST_PG_SCOPE_COMMIT_FAILED (500): nothing is committed
   * @throws FST_PG_SCOPE_COMMIT_UNKNOWN (500): the connection died while COMMIT was under way
   * @throws FST_PG_SCOPE_TRANSACTION_ABORTED (500): a statement had failed
   */
  commit (): Promise<void>
  /** Rolls back now; the next statement begins another transaction. Never rejects for the server's sake. */
  rollback (): Promise<void>
  /** Whatever happens, the work of this session is not committed. The reply is not changed. */
  setRollbackOnly (reason?: string): void
  /** Runs once the transaction is committed, before the reply is sent. What it throws is logged and changes nothing; what it promises is not waited for. */
  afterCommit (fn: () => unknown): void
  /** Runs once the transaction, or the savepoint that it was registered in, is rolled back. */
  afterRollback (fn: () => unknown): void
  readonly state: SessionState
  /** Aborts when the session is over. */
  readonly signal: AbortSignal
}

/** A session that its caller ends. `await using` rolls back what was not committed. */
export interface OwnedSession extends Session, AsyncDisposable {
  /** Rolls back what was not committed, and gives the connection back. Safe to call twice. */
  close (): Promise<void>
}
