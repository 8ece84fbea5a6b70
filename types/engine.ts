import type { Client } from 'pg'
import type { HeldLock, ListenOptions, LockOptions, Notification, Subscription } from './direct.ts'
import type { ScopeOptions } from './options.ts'
import type { Queryable } from './query.ts'
import type { OwnedSession, Session } from './session.ts'

/** A raw pg client, for what a session cannot do: LISTEN, COPY, pg-cursor. */
export type RawClient = Omit<Client, 'connect' | 'end' | 'release'>

export interface Counters {
  /** Connections opened since the start. */
  opened: number
  /**
   * Connections ended because they were not idle, dead, leased raw, too old, used `maxUses` times, or opened before
   * reset().
   */
  destroyed: number
  /** Leases granted. */
  acquired: number
  /** Leases among them that were granted while the previous session's COMMIT was not answered yet. */
  handedOver: number
  /** Sessions rejected because `acquireTimeout` ran out. */
  timedOut: number
  /** Sessions rejected at once: the queue was full or too slow, or the pool was deadlocked. */
  refused: number
  /** Sessions among them that were rejected because the pool was deadlocked. */
  deadlocks: number
  /** Leases that were held longer than `leakDetectionThreshold`. */
  leaks: number
  /** Batches of sessions that were answered, with one statement or with several. */
  roundTrips: number
  /** First batches sent again because their connection was dead. */
  resent: number
  /** CancelRequests sent. */
  canceled: number
  committed: number
  rolledBack: number
  /** Handlers and functions of scope() that were run again, because of `retry`. */
  retried: number
}

export interface Stats {
  strategy: 'queue' | 'null'
  max: number
  /**
   * The version that the server announced when the newest connection was opened, such as '18.4'; behind a pooler, the
   * version that the pooler announces. Undefined before the first connection.
   */
  serverVersion: string | undefined
  /** Connections that exist: idle, in use and being opened. */
  open: number
  idle: number
  inUse: number
  /** Sessions that wait for a connection. */
  waiting: number
  /** Age of the oldest open transaction in milliseconds, 0 without one. */
  oldestTransaction: number
  /** Counts the pool of the primary, and the transactions on all servers. */
  counters: Counters
  /** The hosts of the connection, if there are several or `targetSessionAttrs` is set; otherwise empty. */
  hosts: HostStats[]
  /** The servers of `replicas`; empty without the option. */
  replicas: ReplicaStats[]
}

/** One of several hosts. */
export interface HostStats {
  /** Host and port. */
  name: string
  /** Open connections of the pool. */
  connections: number
  /** Why its last connection could not be used, or null. */
  problem: string | null
}

/** A server of `replicas`. */
export interface ReplicaStats {
  /** Host, port and database. */
  name: string
  /** Read-only work goes there now. */
  inUse: boolean
  /** Why it is not used, or null. */
  problem: string | null
  /** How far behind it was when it was last asked, in milliseconds; null if it did not say. */
  lag: number | null
  serverVersion: string | undefined
  /** The connections of its pool, as in Stats. */
  pool: { open: number, idle: number, inUse: number, waiting: number }
  /** What its pool has counted. */
  counters: Pick<Counters, 'opened' | 'destroyed' | 'acquired' | 'timedOut' | 'refused' | 'roundTrips'>
}

/** What stands between this process and PostgreSQL, as far as the plugin knows. */
export type Pooler =
  /**
   * Nothing was detected yet; or a pooler that does not identify itself. Behind such a pooler a batch is sent when the
   * one before it is answered, `answerTimeout` is 60000 by default, and the rules of transaction mode hold.
   */
  | { kind: 'unknown' }
  | { kind: 'none' }
  | {
    kind: 'pgbouncer'
    /**
     * Before version 1.26 PgBouncer does not announce its mode: 'transaction' is assumed, because its rules work in
     * session mode too.
     */
    mode: 'transaction' | 'session'
    /** Announced by PgBouncer from 1.26 on. */
    version?: string
    /** Whether PgBouncer is known to follow prepared statements (max_prepared_statements, from 1.21 on). */
    preparedStatements: boolean
  }

/** `app.db`: one for each registration of the plugin. */
export interface Engine extends Queryable {
  /**
   * Work outside of a request: commits when fn resolves, rolls back and rethrows when fn rejects. The connection
   * always comes back.
   */
  scope<T> (fn: (session: Session) => Promise<T> | T, options?: ScopeOptions): Promise<T>
  /**
   * The session of the request, scope(fn) or transaction(fn) of this engine that the running code belongs to: the
   * innermost one. In a request that has not used `request.db` yet, it is made as by `request.db`. For code that cannot
   * be handed a session, such as repositories that are made once for the app.
   *
   * It follows the async context from the plugin's onRequest hook on.
   *
   * @throws FST_PG_SCOPE_NO_SESSION (500) elsewhere
   */
  current (): Session
  /** A session that the caller ends. `await using` works, and rolls back what was not committed. */
  session (options?: ScopeOptions): OwnedSession
  /**
   * A raw pg client on a connection of its own, counted against `pool.max`. pg-copy-streams, pg-cursor and
   * pg-query-stream work with it. The connection is ended when fn settles, so await what you start in fn. No other
   * session sees what was set on a direct connection. Behind PgBouncer in transaction mode its rules apply to this
   * client too, and the plugin does not check them.
   */
  lease<T> (fn: (client: RawClient) => Promise<T> | T): Promise<T>
  /**
   * Calls fn for each notification of a channel (https://www.postgresql.org/docs/current/sql-listen.html). All channels
   * share one connection, outside of the pool, which is opened by the first call and closed after the last
   * subscription. When it is lost, it is opened again, with delays of up to 10 s; PostgreSQL keeps no notifications
   * for a session that is away, which `onReconnect` tells. Behind a pooler in transaction mode it needs `directUrl`.
   *
   * @param channel 1 to 63 bytes; upper and lower case differ, as in `LISTEN "Name"`
   * @param fn is called with the payload. Its errors are logged; a promise is not awaited before the next call
   * @returns once the server listens
   * @throws FST_PG_SCOPE_UNREACHABLE, FST_PG_SCOPE_LOGIN_REFUSED, FST_PG_SCOPE_POOLER_UNSUPPORTED,
   * FST_PG_SCOPE_OPTIONS, FST_PG_SCOPE_CLOSED
   */
  listen (
    channel: string,
    fn: (payload: string, notification: Notification) => unknown,
    options?: ListenOptions
  ): Promise<Subscription>
  /**
   * Runs fn while this process holds a session-level advisory lock
   * (https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS): for leader election, and for jobs of
   * which only one may run. Each lock has a connection of its own, outside of the pool. fn gets a signal that aborts
   * when the lock is lost, or when the app begins to close. Behind a pooler in transaction mode it needs `directUrl`.
   *
   * @param key a number or bigint is the key itself, a string is hashed: `hashtextextended(key, 0)` in SQL
   * @returns what fn returns
   * @throws FST_PG_SCOPE_LOCK_NOT_AVAILABLE (503): the lock did not become free within `wait`
   * @throws FST_PG_SCOPE_LOCK_LOST (503): the connection was lost while fn was running
   * @throws FST_PG_SCOPE_CANCELED, FST_PG_SCOPE_UNREACHABLE, FST_PG_SCOPE_LOGIN_REFUSED,
   * FST_PG_SCOPE_POOLER_UNSUPPORTED, FST_PG_SCOPE_OPTIONS, FST_PG_SCOPE_CLOSED
   */
  lock<T> (
    key: string | number | bigint, fn: (lock: HeldLock) => Promise<T> | T, options?: LockOptions
  ): Promise<T>
  stats (): Stats
  /**
   * Makes a round trip to the server, for readiness routes.
   *
   * @param timeout milliseconds, default 1000
   * @returns how long it took, in milliseconds
   * @throws FST_PG_SCOPE_UNREACHABLE when the server did not answer in time; FST_PG_SCOPE_POOL_EXHAUSTED when no
   * connection became free in time; FST_PG_SCOPE_OPTIONS when `timeout` is not an integer ≥ 1
   */
  ping (timeout?: number): Promise<number>
  /** The pooler that was detected or set by hand. */
  readonly pooler: Pooler
  /**
   * Replaces all connections: after a new password, a new address of the server, a failover or a changed schema. Idle
   * connections are closed at once, connections in use when their session ends. Running work is not disturbed, and
   * waiting sessions get new connections.
   *
   * @returns when the idle connections are closed
   * @throws FST_PG_SCOPE_CLOSED after close()
   */
  reset (): Promise<void>
  /**
   * Rejects new work, waits up to `closeTimeout` for work in flight, then cancels it and ends all connections.
   * Fastify's onClose hook calls it.
   */
  close (): Promise<void>
}
