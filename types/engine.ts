import type { Client } from 'pg'
import type { ScopeOptions } from './options.ts'
import type { Queryable } from './query.ts'
import type { OwnedSession, Session } from './session.ts'

/** A raw pg client, for LISTEN, COPY, pg-cursor and what else a session cannot do. */
export type RawClient = Omit<Client, 'connect' | 'end' | 'release'>

export interface Counters {
  /** Connections opened since the start. */
  opened: number
  /** Connections ended because they were dirty, dead, given out raw, too old, used `maxUses` times, or opened before reset(). */
  destroyed: number
  /** Leases given out. */
  acquired: number
  /** Leases among them that began while the COMMIT of the one before was still under way. */
  handedOver: number
  /** Sessions that waited in vain. */
  timedOut: number
  /** Sessions refused because the queue was full. */
  refused: number
  /** First batches sent again because a kept connection was dead. */
  resent: number
  /** CancelRequests sent. */
  canceled: number
  committed: number
  rolledBack: number
}

export interface Stats {
  strategy: 'queue' | 'null'
  max: number
  /** What the server announced when the newest connection was opened, such as '18.4'; behind a pooler what that announces. Undefined before the first connection. */
  serverVersion: string | undefined
  /** Connections that exist: idle, in use and being opened. */
  open: number
  idle: number
  inUse: number
  /** Sessions that wait for a connection. */
  waiting: number
  /** Age of the oldest open transaction in milliseconds, 0 without one. */
  oldestTransaction: number
  counters: Counters
}

/** What stands between this process and PostgreSQL, as far as it is known. */
export type Pooler =
  | { kind: 'unknown' }
  | { kind: 'none' }
  | {
    kind: 'pgbouncer'
    /** Before PgBouncer 1.26 the mode cannot be seen: 'transaction' is assumed, whose rules hold in session mode too. */
    mode: 'transaction' | 'session'
    /** Told by PgBouncer from 1.26 on. */
    version?: string
    /** Whether it is known to follow prepared statements (max_prepared_statements, from 1.21 on). */
    preparedStatements: boolean
  }

/** One for each process: `app.db`. */
export interface Engine extends Queryable {
  /** A unit of work outside a request: commits when fn resolves, rolls back and rethrows when it rejects, always gives the connection back. */
  scope<T> (fn: (session: Session) => Promise<T> | T, options?: ScopeOptions): Promise<T>
  /** A session that the caller ends; `await using` works, and rolls back what was not committed. */
  session (options?: ScopeOptions): OwnedSession
  /**
   * A raw pg client on a connection of its own, counted against `max`, with which pg-copy-streams, pg-cursor and pg-query-stream work as
   * with a client of pg. Await what you start in fn: the connection is ended when fn settles, so that nothing that was set on a direct
   * connection reaches anybody else. Behind PgBouncer in transaction mode its rules hold for this client too, and nobody checks them here.
   */
  lease<T> (fn: (client: RawClient) => Promise<T> | T): Promise<T>
  stats (): Stats
  /**
   * A round trip to the server.
   *
   * @param timeout milliseconds, default 1000
   * @returns how long it took, in milliseconds
   * @throws FST_PG_SCOPE_UNREACHABLE when no answer came in time, FST_PG_SCOPE_POOL_EXHAUSTED when no connection came free for it
   */
  ping (timeout?: number): Promise<number>
  readonly pooler: Pooler
  /**
   * Replaces all connections, for a new password, another address of the server, a failover or a changed schema. Idle connections are
   * closed at once, those in use when their session ends; running work is not disturbed, and waiting sessions get new connections.
   *
   * @returns when the idle connections are closed
   * @throws FST_PG_SCOPE_CLOSED after close()
   */
  reset (): Promise<void>
  /** Refuses new work, waits for what is in flight at most `closeTimeout`, then cancels it and ends every connection. onClose calls it. */
  close (): Promise<void>
}
