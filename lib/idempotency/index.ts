// The export fastify-pg-scope/idempotency: the table of the option `idempotency`.
import type { Queryable } from '../../types/query.ts'

/**
 * The SQL of the table in which routes with `idempotency` keep the answers, for a migration. It must be found by the
 * search_path of the routes, and their role needs SELECT, INSERT and UPDATE on it.
 */
export const idempotencyTable = `CREATE TABLE IF NOT EXISTS pg_scope_idempotency (
  sender text NOT NULL,
  key text NOT NULL,
  fingerprint text NOT NULL,
  expires timestamptz NOT NULL,
  status smallint,
  headers text,
  body bytea,
  PRIMARY KEY (sender, key)
);
CREATE INDEX IF NOT EXISTS pg_scope_idempotency_expires ON pg_scope_idempotency (expires);`

/**
 * Deletes answers whose `ttl` has elapsed. Call it from time to time: an expired key may be used again in any case.
 *
 * @param db the engine, or a session
 * @param limit the most rows to delete, default 10000. An integer ≥ 1
 * @returns how many were deleted
 */
export async function purgeIdempotencyKeys (db: Pick<Queryable, 'query'>, limit = 10000): Promise<number> {
  const { rowCount } = await db.query(`DELETE FROM pg_scope_idempotency WHERE (sender, key) IN (
    SELECT sender, key FROM pg_scope_idempotency WHERE expires < now() ORDER BY expires LIMIT $1
    FOR UPDATE SKIP LOCKED)`, [limit])
  return rowCount ?? 0
}
