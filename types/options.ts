import type { ConnectionOptions as TlsOptions } from 'node:tls'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { CustomTypesConfig } from 'pg'

export type Mode = 'transaction' | 'autocommit'
export type IsolationLevel = 'read uncommitted' | 'read committed' | 'repeatable read' | 'serializable'
export type SettingValue = string | number | boolean
type MaybePromise<T> = T | Promise<T>

/**
 * How a transaction begins. Every duration is in milliseconds, 0 switches a limit off.
 * They are set local to the transaction, so that they work behind PgBouncer in transaction mode
 * (https://www.postgresql.org/docs/current/runtime-config-client.html).
 */
export interface TransactionOptions {
  /** 'transaction' (default): one transaction, begun by the first statement. 'autocommit': each statement by itself, nothing stays open. */
  mode?: Mode | undefined
  /** Default: what the server has as default_transaction_isolation. */
  isolation?: IsolationLevel | undefined
  /** READ ONLY: the server refuses writes, and an answer does not wait for COMMIT (unless SERIALIZABLE). */
  readOnly?: boolean | undefined
  /** DEFERRABLE: needs `isolation: 'serializable'` and `readOnly: true`, as in PostgreSQL. */
  deferrable?: boolean | undefined
  /** statement_timeout. Default: the server's. */
  statementTimeout?: number | undefined
  /** lock_timeout. Default: the server's. */
  lockTimeout?: number | undefined
  /** idle_in_transaction_session_timeout. Default 60000. */
  idleInTransactionTimeout?: number | undefined
  /** transaction_timeout; needs PostgreSQL 17. Default: the server's. */
  transactionTimeout?: number | undefined
  /**
   * How long a connection that owes an answer, COMMIT's included, may say nothing at all. Then it is taken for lost:
   * FST_PG_SCOPE_CONNECTION_LOST, or FST_PG_SCOPE_COMMIT_UNKNOWN. It is the limit that holds when the network swallows what the server's own
   * timeouts send. Default: 10000 more than statementTimeout (for each statement of a batch) or transactionTimeout where one is set, else none.
   */
  answerTimeout?: number | undefined
}

/** For `app.db.scope(fn, options)` and `app.db.session(options)`. */
export interface ScopeOptions extends TransactionOptions {
  /** Settings local to the transaction, as set_config(name, value, true) sets them. */
  settings?: Record<string, SettingValue> | undefined
  /** The role for the transaction, as SET LOCAL ROLE sets it. */
  role?: string | undefined
  /** Aborting it cancels the running statement, rolls back and rejects. */
  signal?: AbortSignal | undefined
}

/** For a route: `config: { db: { … } }`. */
export interface RouteOptions extends TransactionOptions {
  /**
   * Settings local to the transaction, or a function of the request that returns them, or a promise of them. BEGIN waits for the promise, and no
   * connection is taken before it is fulfilled. Anything but a plain object of strings, finite numbers and booleans is an error
   * (FST_PG_SCOPE_OPTIONS), and no statement runs. The function must not use the session of its own request: use `app.db` there.
   */
  settings?: Record<string, SettingValue> | ((request: FastifyRequest) => MaybePromise<Record<string, SettingValue>>) | undefined
  /** The role for the transaction, or a function of the request that names it, or promises to, under the same rules. `'none'` is an error: leave the option out. */
  role?: string | ((request: FastifyRequest) => MaybePromise<string>) | undefined
  /** 'send' (default): COMMIT is answered before the reply is sent. 'response': COMMIT after the answer left; the answer is then no promise. */
  commitOn?: 'send' | 'response' | undefined
  /**
   * Decides instead of the status code, with true, false or a promise of one; anything else is an error (FST_PG_SCOPE_OPTIONS), and the work is rolled
   * back. Never asked after a failed statement, setRollbackOnly() or an error answered with a success.
   */
  commitIf?: ((request: FastifyRequest, reply: FastifyReply) => MaybePromise<boolean>) | undefined
  /**
   * The longest that rows of `stream()` may take to be read by the client, once they are sent as its answer: the transaction is open for as
   * long. Then it is rolled back, and the body breaks off. Milliseconds, default 600000; 0 for no limit.
   */
  streamTimeout?: number | undefined
  /** When the client goes away before its answer: 'rollback' (default) cancels and rolls back, 'commit' lets the work finish. */
  onAbort?: 'rollback' | 'commit' | undefined
}

export interface PoolOptions {
  /** 'queue' (default) keeps connections for the next session. 'null' opens one for each session and keeps none, so that PgBouncer alone pools. */
  strategy?: 'queue' | 'null' | undefined
  /** Most connections at a time. Default 10. */
  max?: number | undefined
  /** Connections opened at startup and kept although idle. Default 0. */
  min?: number | undefined
  /** How long a session waits for a connection, opening one included. Milliseconds, default 5000. */
  acquireTimeout?: number | undefined
  /** Most sessions that may wait at a time; a further one is refused at once. Default: no limit. */
  maxWaiting?: number | undefined
  /** An idle connection is closed after this time. Milliseconds, default 30000, 0 keeps it. */
  idleTimeout?: number | undefined
  /** A connection older than this is replaced, each up to 10 % earlier. Milliseconds, default 1800000, 0 for no limit. */
  maxLifetime?: number | undefined
  /** A connection that has served so many sessions is replaced. An integer ≥ 1. Default: no limit. Has no meaning with strategy 'null'. */
  maxUses?: number | undefined
  /** Asks a kept connection for a sign of life before a session gets it: one round trip for each transaction. Default false: a dead connection is noticed at the first batch and replaced without one. */
  prePing?: boolean | undefined
}

/** pg's own fields for a connection. Each wins over the same field of the URL, and the URL wins over libpq's variables. */
export interface ConnectionFields {
  host?: string | undefined
  port?: number | undefined
  user?: string | undefined
  password?: string | (() => string | Promise<string>) | undefined
  database?: string | undefined
  /** TLS. Takes the place of all that the URL says about it (`sslmode` and the like), so that `{ ca }` verifies whatever the URL says. */
  ssl?: boolean | TlsOptions | undefined
  /** TCP keep-alive. Default true. */
  keepAlive?: boolean | undefined
  /** How long a connection is silent before TCP asks whether the other host is there, and ends it 10 s later where nobody answers. Milliseconds, default 10000. */
  keepAliveInitialDelayMillis?: number | undefined
  /** Type parsers, as in pg. */
  types?: CustomTypesConfig | undefined
}

/** What the server says beside its answers: NOTICE, WARNING and the like (https://www.postgresql.org/docs/current/protocol-error-fields.html). */
export interface Notice {
  /** WARNING, NOTICE, INFO, LOG or DEBUG, in the server's language (lc_messages). */
  severity: string | undefined
  /** The SQLSTATE: 00000 for RAISE NOTICE. */
  code: string | undefined
  message: string | undefined
  detail: string | undefined
  hint: string | undefined
  /** The call stack of functions that it came from. */
  where: string | undefined
  schema: string | undefined
  table: string | undefined
  column: string | undefined
  constraint: string | undefined
}

/** What `app.register(pgScope, options)` takes. Without connection fields DATABASE_URL and pg's PG… variables are read. */
export interface PgScopeOptions extends ConnectionFields, RouteOptions {
  /** postgres://user:password@host:5432/database. Parameters that are not honoured stop the boot. */
  connectionString?: string | undefined
  /** The name on app, request and a route's config. Default 'db'. */
  decorator?: string | undefined
  /** Default `name:user@host`, cut to 63 bytes. */
  applicationName?: string | undefined
  pool?: PoolOptions | undefined
  /** What stands between this process and PostgreSQL. 'auto' (default) finds out; 'transaction' and 'session' are PgBouncer's modes. */
  pooler?: 'auto' | 'none' | 'session' | 'transaction' | undefined
  /**
   * What is prepared on a connection: statements under the names that they are given, and by itself what is used often. A number is how many
   * each connection prepares by itself, the least recently used making way (default 100; 0 for none); false prepares nothing and leaves names out.
   * By default it is done on a direct connection, behind PgBouncer in session mode, and behind one that says that it follows prepared
   * statements (https://www.pgbouncer.org/config.html#max_prepared_statements); true does it behind any.
   */
  preparedStatements?: boolean | number | undefined
  /**
   * What happens to state that a session leaves on its connection: settings without LOCAL, a role, LISTEN, temporary objects, session
   * advisory locks, prepared statements, cursors WITH HOLD.
   *
   * - `'reset'` (default): the pool sends DISCARD ALL when such a connection comes back, before another session gets it
   *   (https://www.postgresql.org/docs/current/sql-discard.html). Sessions that leave nothing behind cost no round trip.
   * - `'keep'`: the next session finds it.
   *
   * Behind a pooler in transaction mode such statements are refused and nothing is reset. With `pool.strategy: 'null'` the connection
   * ends with its session.
   */
  sessionState?: 'reset' | 'keep' | undefined
  /** A connection that is held longer than this is reported in the log, with route and stack, and again when it comes back. Milliseconds, default 0: never. */
  leakDetectionThreshold?: number | undefined
  /**
   * Called with each NOTICE and WARNING of the server, which is logged at level debug as well: the text of a RAISE NOTICE may hold data.
   * `route` is the method and route of the request whose statement it came with; undefined outside of requests. What it throws is logged and
   * changes nothing. `client_min_messages` says what the server sends.
   */
  onNotice?: ((notice: Notice, route: string | undefined) => unknown) | undefined
  /** How long close() waits for work in flight before it cancels. Milliseconds, default 10000. */
  closeTimeout?: number | undefined
  /** Connect once at startup, so that a wrong host or password fails the boot. Default true. */
  startupCheck?: boolean | undefined
  /**
   * Answers show the details of this plugin's errors, which may name host, database, statements and options: for development.
   * Default false: the message names the code only, and the details are in the log.
   */
  exposeErrors?: boolean | undefined
}
