import type { Readable } from 'node:stream'
import type { Mode } from './options.ts'
import type { Queryable, StatementConfig } from './query.ts'

/** `idle`, `opening`, `active`, `failed`, `settling` or `closed`: docs/sessions.md has the diagram. */
export type SessionState = 'idle' | 'opening' | 'active' | 'failed' | 'settling' | 'closed'

export interface StreamOptions {
  /** How many rows one FETCH returns; up to three times as many are in memory. An integer ≥ 1, default 500. */
  batchSize?: number | undefined
}

/**
 * The rows of one SELECT, in constant memory: an async iterable and a Readable in object mode. Sent as a reply it
 * becomes NDJSON.
 */
export interface RowStream<R = any> extends Readable {
  [Symbol.asyncIterator] (): NodeJS.AsyncIterator<R>
}

/** A savepoint that its caller ends: the result of savepoint(). `await using` rolls it back unless it was released. */
export interface Savepoint extends AsyncDisposable {
  /** The name that was given to savepoint(), or one that the session has chosen. */
  readonly name: string
  /**
   * Keeps the work: it is part of what is around the savepoint from now on. RELEASE travels with the next statement.
   *
   * @throws the failure of the work (FST_PG_SCOPE_TRANSACTION_ABORTED, whose `cause` is the first error, or the error
   * of a transaction(fn) that was not awaited). The savepoint is then still open: rollback() recovers the session
   * @throws FST_PG_SCOPE_SESSION_STATE (500): it has ended, or a savepoint that was opened later is still open
   */
  release (): Promise<void>
  /**
   * Undoes the work, and makes a session usable again that a statement of the work has failed. `afterCommit` hooks of
   * the work are dropped, its streams are closed.
   *
   * @throws FST_PG_SCOPE_SESSION_STATE (500): it has ended, or a savepoint that was opened later is still open
   */
  rollback (): Promise<void>
}

/** One unit of work: its first statement begins a transaction. `request.db` is a session. */
export interface Session extends Queryable {
  /**
   * Returns rows as a stream, by DECLARE CURSOR and FETCH in this session's transaction
   * (https://www.postgresql.org/docs/current/sql-declare.html): SELECT and VALUES only. When it is sent as a reply,
   * the transaction stays open until the last row has been read.
   *
   * It takes the config of query(), with differences: `name` is an error, because a cursor is declared each time, and
   * `prepare` has no effect. An abort of `signal` destroys the stream with FST_PG_SCOPE_CANCELED, unless all rows
   * have arrived. The stream emits all errors; stream() does not throw.
   */
  stream<R extends any[] = any[]> (
    config: StatementConfig & { rowMode: 'array' },
    options?: StreamOptions
  ): RowStream<R>
  stream<R = any> (config: StatementConfig & { rowMode?: undefined }, options?: StreamOptions): RowStream<R>
  stream<R = any> (text: string, values?: readonly unknown[], options?: StreamOptions): RowStream<R>
  /**
   * A nested transaction: a savepoint, released when fn resolves, rolled back when fn rejects. In mode 'autocommit'
   * the outermost one is a real transaction. Calls nest to any depth. Statements from outside of fn wait until fn has
   * settled.
   */
  transaction<T> (fn: (session: Session) => Promise<T> | T): Promise<T>
  /**
   * Opens a savepoint (https://www.postgresql.org/docs/current/sql-savepoint.html): the imperative form of
   * transaction(fn), for code that separates the beginning from the end. Every call on the session between savepoint()
   * and release() or rollback() belongs to it, in whatever async context it is made. Called in fn of a transaction(fn),
   * it belongs to fn. SAVEPOINT travels with the next statement.
   *
   * The end of what is around it, fn or the transaction, is its end too: work that was not rolled back until then is
   * kept or undone with it. In mode 'autocommit', outside of transaction(fn), it begins a transaction, as BEGIN does:
   * release() commits, rollback() rolls back, and the end of the session rolls back.
   *
   * @param name a string of 1 to 63 bytes without a zero byte. By default the session chooses one
   * @throws FST_PG_SCOPE_TRANSACTION_ABORTED (500): an earlier statement has failed
   * @throws FST_PG_SCOPE_QUERY_INVALID (500): `name` cannot be one
   */
  savepoint (name?: string): Promise<Savepoint>
  /**
   * Commits now; the next statement begins another transaction.
   *
   * @throws FST_PG_SCOPE_CONSTRAINT_VIOLATION (409), FST_PG_SCOPE_SERIALIZATION_FAILURE (503),
   * FST_PG_SCOPE_COMMIT_FAILED (500): nothing is committed
   * @throws FST_PG_SCOPE_COMMIT_UNKNOWN (500): the connection was lost after COMMIT was sent
   * @throws FST_PG_SCOPE_TRANSACTION_ABORTED (500): a statement has failed, or setRollbackOnly() was called
   * @throws FST_PG_SCOPE_SESSION_STATE (500): inside of transaction(fn)
   */
  commit (): Promise<void>
  /** Rolls back now; the next statement begins another transaction. An error of the server does not reject it. */
  rollback (): Promise<void>
  /** The work of this session is never committed. The reply is not changed. */
  setRollbackOnly (reason?: string): void
  /**
   * fn runs once the transaction is committed, before the reply is sent. Its errors are logged and change nothing;
   * its promise is not awaited.
   */
  afterCommit (fn: () => unknown): void
  /** fn runs once the transaction, or the savepoint in which it was registered, is rolled back. */
  afterRollback (fn: () => unknown): void
  /** As the options of the session say: its statements share a transaction, or each is committed by itself. */
  readonly mode: Mode
  readonly state: SessionState
  /** With `retry`: the number of this attempt of the handler, or of the function of scope(), from 1 on. Otherwise 1. */
  readonly attempt: number
  /**
   * With `replicas`: the position in the log behind the last COMMIT of this session that has written anything, or of
   * an `app.db.query()` within; for `request.db`, of any attempt of its request. Null before. For
   * `scope(fn, { notBefore })` of work that follows, which may travel in a message or a job.
   */
  readonly writtenAt: string | null
  /** Aborts when the session ends. */
  readonly signal: AbortSignal
}

/** A session that its caller ends. `await using` rolls back what was not committed. */
export interface OwnedSession extends Session, AsyncDisposable {
  /** Rolls back what was not committed, and returns the connection. May be called twice. */
  close (): Promise<void>
}
