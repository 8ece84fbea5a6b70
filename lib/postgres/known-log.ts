/** The log that a server writes, as texts of PostgreSQL. */
export interface KnownLog {
  /**
   * The system identifier
   * (https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-PG-CONTROL-SYSTEM).
   */
  readonly system: string
  /** As it stands in the names of WAL files. Null on a standby. */
  readonly timeline: string | null
}

/** A connection, as far as it matters here. */
export interface LogKeeper {
  readonly poolsTransactions: boolean | null
  log: KnownLog | null
}

/**
 * Keeps what the server of a connection has said, so that it need not be asked again: pg_control_system() reads a file,
 * most of what the whole question costs. The log of a primary stays the same until it restarts, which ends the
 * connection. Behind a pooler another server may answer next, and a standby may be promoted: then nothing is kept.
 */
export function rememberLog (keeper: LogKeeper, system: unknown, timeline: unknown): KnownLog {
  const log = { system, timeline } as KnownLog
  if (keeper.poolsTransactions === false && timeline !== null) keeper.log = log
  return log
}
