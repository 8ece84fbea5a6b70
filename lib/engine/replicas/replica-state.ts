import type pg from 'pg'
import type { WalPosition } from '../../postgres/wal-position.ts'

/**
 * What a server says of its replication. `lag` is 0 if it has replayed all that it has received, and still receives;
 * otherwise the age of the last transaction that it has replayed.
 * (https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-RECOVERY-CONTROL)
 */
const question = `SELECT pg_catalog.pg_is_in_recovery(), CASE
WHEN pg_catalog.pg_last_wal_receive_lsn() <= pg_catalog.pg_last_wal_replay_lsn()
AND EXISTS (SELECT FROM pg_catalog.pg_stat_get_wal_receiver() WHERE pid IS NOT NULL) THEN 0
ELSE extract(epoch FROM pg_catalog.clock_timestamp() - pg_catalog.pg_last_xact_replay_timestamp()) * 1000 END,
pg_catalog.pg_last_wal_replay_lsn()::text, (SELECT system_identifier::text FROM pg_catalog.pg_control_system()),
(SELECT timeline_id::text FROM pg_catalog.pg_control_checkpoint())`

const asText = { getTypeParser: () => String }

/** What a replica has said of itself. */
export interface ReplicaState {
  readonly isInRecovery: boolean
  /** Milliseconds; null if it did not say. */
  readonly lag: number | null
  /** How far it has replayed the log; the timeline may be an earlier one. Null if it did not say. */
  readonly replayed: WalPosition | null
}

export async function askState (client: pg.Client): Promise<ReplicaState> {
  const { rows: [row] } = await client.query<(string | null)[]>({ text: question, rowMode: 'array', types: asText })
  const [isInRecovery, lag, lsn, system, timeline] = row ?? []
  return {
    isInRecovery: isInRecovery === 't',
    lag: lag == null ? null : Math.max(0, Math.round(Number(lag))),
    replayed: lsn == null ? null : { lsn, system: system!, timeline: Number(timeline) }
  }
}

/** Why a server in this state must not serve reads, or null. @param maxLag milliseconds */
export function problemOf ({ isInRecovery, lag }: ReplicaState, maxLag: number): string | null {
  if (!isInRecovery) return 'it is not in recovery: it is a primary'
  if (maxLag === Infinity) return null
  if (lag === null) return 'it does not say how far behind it is'
  return lag > maxLag ? `it is ${lag} ms behind (\`maxLag\`: ${maxLag})` : null
}
