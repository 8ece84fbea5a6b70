import type { ManagedSession } from './managed-session.ts'

/**
 * Whether the transaction has written nothing and holds nothing that its end would release: no lock beyond those of a
 * SELECT, no cursor, no snapshot that later statements must share. txid_current_if_assigned() is null before the first
 * write (https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-SNAPSHOT); an advisory lock and LOCK
 * TABLE are no writes.
 */
const question = `SELECT pg_catalog.txid_current_if_assigned() IS NULL
  AND pg_catalog.current_setting('transaction_isolation') LIKE 'read %'
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_locks WHERE pid = pg_catalog.pg_backend_pid()
    AND (locktype = 'advisory' OR (locktype = 'relation' AND mode <> 'AccessShareLock')))
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE name <> '') AS "isUnchanged"`

/**
 * Ends a transaction in which nothing is in progress, if that loses nothing. The next statement begins another one.
 *
 * @returns `interrupted` if the session was used in the meantime, so that the server's answer is out of date
 */
export async function endUnchanged (session: ManagedSession): Promise<'ended' | 'kept' | 'interrupted'> {
  const before = session.resting
  if (before === null) return 'kept'
  const { rows: [row] } = await session.query(question)
  if (session.resting !== before + 1) return 'interrupted'
  if (!row!.isUnchanged) return 'kept'
  await session.commit()
  return 'ended'
}
