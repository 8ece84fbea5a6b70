import { Statement } from './statement.ts'

/**
 * Fails unless the standby has replayed the log up to $1. Where a snapshot lasts for the whole transaction it fails in
 * any case: this statement would take the snapshot before it looks.
 */
const check = `SELECT 1 / (pg_catalog.pg_last_wal_replay_lsn() >= $1::pg_catalog.pg_lsn
AND pg_catalog.current_setting('transaction_isolation') IN ('read committed', 'read uncommitted'))::int`

/**
 * The first statement of a transaction on a standby that must have replayed its log up to a position. If it has not,
 * the statement fails, so that the server skips the rest of the batch.
 *
 * @param lsn checked by parsePosition(): WAIT FOR takes no parameters
 * @param timeout how long the standby waits for it, in milliseconds; null: it cannot wait, which takes PostgreSQL 19
 * (https://www.postgresql.org/docs/19/sql-wait-for.html)
 */
export function replayedCheck (lsn: string, timeout: number | null): Statement {
  if (timeout !== null) return new Statement(`WAIT FOR LSN '${lsn}' WITH (TIMEOUT '${timeout}ms')`)
  const statement = new Statement(check, [lsn])
  statement.automatic = true
  return statement
}
