import type { ConnectionOptions as TlsOptions } from 'node:tls'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { CustomTypesConfig } from 'pg'

export type Mode = 'transaction' | 'autocommit'
export type IsolationLevel = 'read uncommitted' | 'read committed' | 'repeatable read' | 'serializable'
export type SettingValue = string | number | boolean

/**
 * What a server must be for a connection to use it, as in libpq
 * (https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-TARGET-SESSION-ATTRS):
 *
 * - 'any': it accepts the login
 * - 'read-write': it is no standby, and its transactions are not read-only by default
 * - 'read-only': it is a standby, or its transactions are read-only by default
 * - 'primary': it is no standby
 * - 'standby': it is one
 * - 'prefer-standby': it is one; if no host is, any other
 */
export type TargetSessionAttrs = 'any' | 'read-write' | 'read-only' | 'primary' | 'standby' | 'prefer-standby'

type MaybePromise<T> = T | Promise<T>

/**
 * How a transaction begins. Durations are in milliseconds; 0 disables a limit. Timeouts are local to the transaction,
 * so they work behind PgBouncer in transaction mode
 * (https://www.postgresql.org/docs/current/runtime-config-client.html).
 */
export interface TransactionOptions {
  /**
   * 'transaction' (default): the first statement begins a transaction. 'autocommit': each statement is committed by
   * itself.
   */
  mode?: Mode | undefined
  /** Default: the server's default_transaction_isolation. */
  isolation?: IsolationLevel | undefined
  /**
   * READ ONLY: the server refuses writes, and the response does not wait for COMMIT, unless the isolation is
   * SERIALIZABLE.
   */
  readOnly?: boolean | undefined
  /**
   * With `replicas`: false keeps a `readOnly` transaction on the primary. Default true. SERIALIZABLE transactions stay
   * there in any case, as no standby can run them
   * (https://www.postgresql.org/docs/current/hot-standby.html#HOT-STANDBY-CAVEATS).
   */
  replica?: boolean | undefined
  /**
   * With `replicas`: what happens to a `readOnly` transaction that no replica can serve now. true (default): the
   * primary serves it. false: it is rejected with FST_PG_SCOPE_NO_REPLICA (503).
   */
  fallback?: boolean | undefined
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
   * How long a connection that owes an answer may send nothing. After that it is treated as lost:
   * FST_PG_SCOPE_CONNECTION_LOST, or FST_PG_SCOPE_COMMIT_UNKNOWN after COMMIT. This limit also works on a network
   * that drops packets, where the server's timeouts are not noticed. Default: statementTimeout (for each statement of
   * a batch) or transactionTimeout plus 10000; where neither is set 60000 behind a pooler that does not identify itself
   * (`app.db.pooler.kind` is 'unknown'), and no limit elsewhere.
   */
  answerTimeout?: number | undefined
}

/** When work is run again whose transaction failed because of a concurrent one. */
export interface RetryOptions {
  /** The most attempts, the first included. An integer ≥ 1, default 3. */
  attempts?: number | undefined
  /**
   * The longest delay before the second attempt; each further one doubles it. Milliseconds, default 20, or `maxDelay`
   * if that is shorter.
   */
  minDelay?: number | undefined
  /** No delay is longer. Milliseconds, at least `minDelay`, default 1000, or `minDelay` if that is longer. */
  maxDelay?: number | undefined
}

/** For `app.db.scope(fn, options)` and `app.db.session(options)`. */
export interface ScopeOptions extends TransactionOptions {
  /** Settings local to the transaction, by set_config(name, value, true). */
  settings?: Record<string, SettingValue> | undefined
  /** The role of the transaction, as by SET LOCAL ROLE. */
  role?: string | undefined
  /**
   * Runs fn again in a new transaction, with a new session, after a serialization failure (40001) or a deadlock (40P01)
   * of a statement or of COMMIT (https://www.postgresql.org/docs/current/mvcc-serialization-failure-handling.html). A
   * number is the most attempts. Default false. Not for session(), which has no function to run again.
   */
  retry?: number | false | RetryOptions | undefined
  /**
   * With `replicas`: a `readOnly` transaction sees at least what is written up to this position, which is `writtenAt`
   * of an earlier session, in another process perhaps. Null and undefined: no matter what.
   */
  notBefore?: string | null | undefined
  /**
   * An abort cancels the running statement, rolls back and rejects with FST_PG_SCOPE_CANCELED. In mode 'autocommit'
   * statements that are committed stay, and a scope(fn) resolves if fn does and no transaction was open.
   */
  signal?: AbortSignal | undefined
}

/** How clients are told where in the log they have written. */
export interface ReadYourWritesOptions {
  /**
   * Signs the positions, so that no client can make one. The same for all processes that serve a client: a position
   * that another secret has signed is ignored. At least 16 characters. Default: a random one for this process.
   */
  secret?: string | undefined
  /** The name of the cookie. Default 'pg-scope-lsn'. */
  cookie?: string | undefined
}

/** How a route honours the header Idempotency-Key. */
export interface IdempotencyOptions {
  /** The header with the key. Default 'idempotency-key'. */
  header?: string | undefined
  /** A request without a key is answered with 400 (FST_PG_SCOPE_IDEMPOTENCY_KEY). Default false: it runs as usual. */
  required?: boolean | undefined
  /**
   * The sender that the key belongs to, such as the id of the user, or a promise of it: two senders may use the same
   * key. It is called after the preHandler hooks, so after the authentication. By default all requests share their
   * keys: give it wherever a sender must not read the answers of another one.
   */
  keyOf?: ((request: FastifyRequest) => MaybePromise<string>) | undefined
  /**
   * What a repeated request must have in common with the first one, or a promise of it; another request with the key is
   * answered with 422 (FST_PG_SCOPE_IDEMPOTENCY_MISMATCH). Default: a hash of method, URL and parsed body.
   */
  fingerprint?: ((request: FastifyRequest) => MaybePromise<string>) | undefined
  /** How long an answer is kept. Milliseconds, ≥ 1, default 86400000: a day. */
  ttl?: number | undefined
  /**
   * How long a repeated request waits for the first one, which is still in progress. After that it is answered with 409
   * (FST_PG_SCOPE_IDEMPOTENCY_CONFLICT). Milliseconds, ≥ 1, default 5000.
   */
  wait?: number | undefined
}

/** For a route: `config: { db: { … } }`. */
export interface RouteOptions extends TransactionOptions {
  /**
   * Settings local to the transaction, or a function of the request that returns them or a promise of them. The
   * session takes no connection before the promise is fulfilled. A result that is not a plain object of strings,
   * finite numbers and booleans is an error (FST_PG_SCOPE_OPTIONS), and no statement runs. The function must not use
   * the session of its own request: use `app.db` there.
   */
  settings?:
    | Record<string, SettingValue>
    | ((request: FastifyRequest) => MaybePromise<Record<string, SettingValue>>)
    | undefined
  /**
   * The role of the transaction, or a function of the request that returns it or a promise of it, as for `settings`.
   * `'none'` is an error: leave the option out.
   */
  role?: string | ((request: FastifyRequest) => MaybePromise<string>) | undefined
  /**
   * 'send' (default): the reply is sent after COMMIT is answered. 'response': COMMIT is sent after the reply; a
   * success response then does not guarantee the commit.
   */
  commitOn?: 'send' | 'response' | undefined
  /**
   * Decides instead of the status code, by true, false or a promise of one. Any other result is an error
   * (FST_PG_SCOPE_OPTIONS), and the work is rolled back. Not called after a failed statement, after
   * setRollbackOnly(), or where an error was answered with a success.
   */
  commitIf?: ((request: FastifyRequest, reply: FastifyReply) => MaybePromise<boolean>) | undefined
  /**
   * How long the client may take to read rows of `stream()` that are its response, because the transaction is open
   * meanwhile. After that it is rolled back, and the body breaks off. Milliseconds, default 600000; 0 for no limit.
   */
  streamTimeout?: number | undefined
  /**
   * When the client disconnects before its response: 'rollback' (default) cancels and rolls back, 'commit' lets the
   * work finish.
   */
  onAbort?: 'rollback' | 'commit' | undefined
  /**
   * Adds the header Server-Timing (https://www.w3.org/TR/server-timing/) to responses whose request used its session:
   * `db`, `acquire` and `commit`, the milliseconds that it waited for statements, connections and COMMIT. Whoever may
   * read a response can read it. Default false.
   */
  serverTiming?: boolean | undefined
  /**
   * Runs the handler again in a new transaction after a serialization failure (40001) or a deadlock (40P01) of a
   * statement or of COMMIT (https://www.postgresql.org/docs/current/mvcc-serialization-failure-handling.html), as long
   * as nothing was sent to the client. A number is the most attempts. Default false, as only you know whether the
   * handler may run twice. Not with mode 'autocommit' nor with `commitOn: 'response'`.
   */
  retry?: number | false | RetryOptions | undefined
  /**
   * Only for a route. A request with the header Idempotency-Key
   * (https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/) is done once: its answer is saved
   * by the transaction of its work, and a repeated request gets that answer, with `idempotency-replayed: true`. Needs
   * the table that `fastify-pg-scope/idempotency` exports. Not with mode 'autocommit', `readOnly`,
   * `commitOn: 'response'` and `onAbort: 'commit'`.
   */
  idempotency?: boolean | IdempotencyOptions | undefined
}

export interface PoolOptions {
  /**
   * 'queue' (default) keeps connections for later sessions. 'null' opens one for each session and keeps none, so that
   * PgBouncer alone pools.
   */
  strategy?: 'queue' | 'null' | undefined
  /** The most connections at a time. An integer ≥ 1, default 10. */
  max?: number | undefined
  /** Connections opened at startup and kept although idle. An integer from 0 to `max`, default 0. */
  min?: number | undefined
  /** How long a session waits for a connection, opening one included. Milliseconds, ≥ 1, default 5000. */
  acquireTimeout?: number | undefined
  /**
   * The most sessions that may wait at a time; further ones are rejected at once. An integer ≥ 0. Default: no limit.
   */
  maxWaiting?: number | undefined
  /** An idle connection is closed after this time. Milliseconds, default 30000; 0 keeps it. */
  idleTimeout?: number | undefined
  /**
   * A connection older than this is replaced, each up to 10 % earlier. Milliseconds, default 1800000; 0 for no limit.
   */
  maxLifetime?: number | undefined
  /**
   * A connection that has served this many sessions is replaced. An integer ≥ 1. Default: no limit. No effect with
   * strategy 'null'.
   */
  maxUses?: number | undefined
  /**
   * Checks an idle connection before a session gets it, by a round trip. Default false: a dead connection is noticed
   * by the first batch, which is sent again on a new one.
   */
  prePing?: boolean | undefined
}

/**
 * pg's own fields for a connection. Each overrides the same field of the URL, and the URL overrides libpq's
 * variables.
 */
export interface ConnectionFields {
  /** A name, an address or the folder of a Unix domain socket. Several are separated by commas: 'one,two'. */
  host?: string | undefined
  /** One port, which is that of every host, or a list: '5432,5433'. Default 5432. */
  port?: number | string | undefined
  /**
   * Which of several hosts a new connection uses: the first one that is what is asked for. From PostgreSQL 14 on the
   * server announces that at login, so that it costs no round trip. With 'primary' and 'read-write' a server that turns
   * out to be read-only is left, and the first batch of the transaction is sent to another one; while no host fits,
   * sessions wait up to `pool.acquireTimeout`. Default 'any'.
   */
  targetSessionAttrs?: TargetSessionAttrs | undefined
  /**
   * The order in which a new connection tries the hosts: 'disable' (default) as given, 'random' spreads the connections
   * over them.
   */
  loadBalanceHosts?: 'disable' | 'random' | undefined
  user?: string | undefined
  password?: string | (() => string | Promise<string>) | undefined
  database?: string | undefined
  /**
   * TLS. Replaces everything that the URL says about it (`sslmode` and others), so that `{ ca }` verifies the server
   * in any case.
   */
  ssl?: boolean | TlsOptions | undefined
  /** TCP keep-alive. Default true. */
  keepAlive?: boolean | undefined
  /**
   * How long a connection is silent before TCP probes it. A connection whose probes get no answer ends 10 s later.
   * Milliseconds, default 10000.
   */
  keepAliveInitialDelayMillis?: number | undefined
  /** Type parsers, as in pg. */
  types?: CustomTypesConfig | undefined
}

/** How the server learns which trace a transaction belongs to. */
export interface TraceContextOptions {
  /**
   * The setting that has the traceparent, for `current_setting(name, true)`: a name with a prefix
   * (https://www.postgresql.org/docs/current/runtime-config-custom.html). Default 'pg_scope.traceparent'.
   */
  setting?: string | undefined
  /**
   * Puts the traceparent behind the first seven characters of application_name, for the time of the transaction: so
   * `%a` of log_line_prefix, pg_stat_activity and log files in CSV and JSON show it. Default true.
   */
  applicationName?: boolean | undefined
  /**
   * The traceparent of a request, or undefined. A string that is none is not sent. It is called once, when the request
   * first uses its session. Default: the active span with `fastify-pg-scope/otel`, otherwise the header `traceparent`.
   */
  of?: ((request: FastifyRequest) => string | undefined) | undefined
}

/**
 * A message of the server that is no answer: NOTICE, WARNING and others
 * (https://www.postgresql.org/docs/current/protocol-error-fields.html).
 */
export interface Notice {
  /** WARNING, NOTICE, INFO, LOG or DEBUG, in the server's language (lc_messages). */
  severity: string | undefined
  /** The SQLSTATE: 00000 for RAISE NOTICE. */
  code: string | undefined
  message: string | undefined
  detail: string | undefined
  hint: string | undefined
  /** The call stack of the functions that raised it. */
  where: string | undefined
  schema: string | undefined
  table: string | undefined
  column: string | undefined
  constraint: string | undefined
}

/**
 * The options of `app.register(pgScope, options)`. Without connection fields DATABASE_URL and pg's PG… variables are
 * read.
 */
export interface PgScopeOptions extends ConnectionFields, Omit<RouteOptions, 'idempotency'> {
  /** postgres://user:password@host:5432/database. Parameters that are not supported stop the boot. */
  connectionString?: string | undefined
  /**
   * The address of PostgreSQL itself where `connectionString` leads to a pooler in transaction mode: for `listen()` and
   * `lock()`, which need a server session of their own. `ssl`, the `keepAlive` options, `targetSessionAttrs` and
   * `loadBalanceHosts` apply to it too; user and password are those of the URL. Default: the address of the pool.
   */
  directUrl?: string | undefined
  /** The name on app, request and a route's `config`. Default 'db'. */
  decorator?: string | undefined
  /**
   * The hot standbys of this server, as URLs, or a function that returns them or a promise of them; it is called again
   * every 10 seconds. A URL with several hosts stands for as many standbys. What a URL leaves out (user, password,
   * database, TLS) is as for the primary. Each has a pool of its own, with the options of `pool`. `readOnly`
   * transactions, their streams, and statements of mode 'autocommit' with `readOnly` go there, everything else goes to
   * the primary.
   */
  replicas?: readonly string[] | (() => MaybePromise<readonly string[]>) | undefined
  /**
   * A replica that is further behind is not used until it has caught up. Milliseconds, ≥ 1. Default: no limit. It is
   * measured once a second, or twice in this time if that is shorter: the age of the last transaction that the replica
   * has replayed, 0 if it has replayed everything that it has received.
   */
  maxLag?: number | undefined
  /**
   * With `replicas`: a client that has written reads nothing older. After a request that has written, the response
   * carries a signed position in the log: as a cookie if @fastify/cookie is registered, otherwise as the header
   * `x-pg-scope-lsn`, which the client sends back. A replica that has not replayed it is not used for this client.
   * Default true; false turns it off. With several processes give a common `secret`.
   */
  readYourWrites?: boolean | ReadYourWritesOptions | undefined
  /**
   * How long a replica may take to replay what the client has written, before the primary serves the read instead. Only
   * PostgreSQL 19 can wait (WAIT FOR LSN); an earlier one is only asked. Milliseconds, default 100; 0: no wait.
   */
  waitForReplica?: number | undefined
  /** Default `name:user@host`, cut to 63 bytes. */
  applicationName?: string | undefined
  pool?: PoolOptions | undefined
  /**
   * What stands between this process and PostgreSQL. 'auto' (default) detects it; 'transaction' and 'session' are
   * the modes of PgBouncer, or of another pooler that takes several batches at once (docs/poolers.md).
   */
  pooler?: 'auto' | 'none' | 'session' | 'transaction' | undefined
  /**
   * What is prepared on a connection: statements with a `name`, and frequently used texts automatically. A number is
   * how many texts each connection prepares automatically (default 100; 0 for none); the least recently used one is
   * replaced. false prepares nothing and sends statements without their names. By default statements are prepared on
   * a direct connection, behind PgBouncer in session mode, and behind a PgBouncer that announces that it follows them
   * (https://www.pgbouncer.org/config.html#max_prepared_statements); true: behind every pooler.
   */
  preparedStatements?: boolean | number | undefined
  /**
   * What happens to the state that a session leaves on its connection: settings without LOCAL, a role, LISTEN,
   * temporary objects, session advisory locks, prepared statements, cursors WITH HOLD.
   *
   * - `'reset'` (default): the pool sends DISCARD ALL when such a connection comes back, before another session gets
   *   it (https://www.postgresql.org/docs/current/sql-discard.html). A session that leaves nothing behind costs no
   *   round trip.
   * - `'keep'`: the next session sees it.
   *
   * Behind a pooler in transaction mode such statements are refused and nothing is reset. With `pool.strategy:
   * 'null'` the connection ends with its session.
   */
  sessionState?: 'reset' | 'keep' | undefined
  /**
   * When the connection is lost after COMMIT was sent and before it was answered, another connection is asked whether
   * the transaction is committed (https://www.postgresql.org/docs/current/functions-info.html): then the session goes
   * on as if COMMIT had been answered, or fails with FST_PG_SCOPE_CONNECTION_LOST (503). The question is repeated while
   * the transaction is in progress, for up to `pool.acquireTimeout`. What nobody can know remains
   * FST_PG_SCOPE_COMMIT_UNKNOWN. It costs one small statement for each transaction, and no round trip. Needs PostgreSQL
   * 13. Default false.
   */
  resolveCommits?: boolean | undefined
  /**
   * Tells the server which trace (https://www.w3.org/TR/trace-context/) a transaction belongs to, by settings that are
   * local to it and travel with BEGIN: no further round trip, and no text of a statement changes. Statements that
   * commit by themselves have it too, if they are SELECT, INSERT, UPDATE, DELETE, MERGE, WITH, VALUES or TABLE.
   * Default false.
   */
  traceContext?: boolean | TraceContextOptions | undefined
  /**
   * A connection that is held longer than this is logged, with route and stack, and again when it comes back.
   * Milliseconds, default 0: off.
   */
  leakDetectionThreshold?: number | undefined
  /**
   * A statement that takes longer, from its call to its result, is logged at level warn: its text without values,
   * route, id of the request, duration, wait and rows. Milliseconds, default 0: off.
   */
  slowStatementThreshold?: number | undefined
  /**
   * A transaction that takes longer, from its first statement to the answer of COMMIT or ROLLBACK, is logged at level
   * warn: route, id of the request, duration, wait for the connection, statements, rows and outcome. Milliseconds,
   * default 0: off.
   */
  slowTransactionThreshold?: number | undefined
  /**
   * Called with each NOTICE and WARNING of the server. They are also logged, at level debug, because the text of a
   * RAISE NOTICE may hold data. `route` is the method and route of the request whose statement caused it; undefined
   * outside of requests. Errors of the function are logged and change nothing. `client_min_messages` decides what the
   * server sends.
   */
  onNotice?: ((notice: Notice, route: string | undefined) => unknown) | undefined
  /** How long close() waits for work in flight before it cancels it. Milliseconds, default 10000. */
  closeTimeout?: number | undefined
  /** Connect once at startup, so that a wrong host or password fails the boot. Default true. */
  startupCheck?: boolean | undefined
  /**
   * Error responses show the details of this plugin's errors, which may name host, database, statements and options.
   * For development. Default false: the message names the code and a general sentence, and the details are in the
   * log.
   */
  exposeErrors?: boolean | undefined
}
