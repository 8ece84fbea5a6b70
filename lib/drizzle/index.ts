import type { DrizzleConfig } from 'drizzle-orm'
import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import type { Engine } from '../../types/engine.ts'
import type { Session } from '../../types/session.ts'
import { checkSource } from '../library-source.ts'
import { databaseOn } from './session-database.ts'

/**
 * A Drizzle database whose statements run on a session, such as `request.db`: what `drizzle()` of
 * `drizzle-orm/node-postgres` returns.
 *
 * - `db.transaction(fn)` is a `transaction(fn)` of the session.
 * - On an engine (`app.db`) each statement is committed by itself, and a transaction is a `scope(fn)`.
 * - A function is called for each statement and transaction.
 *
 * Errors of the server are Drizzle's DrizzleQueryError with pg's DatabaseError as `cause`. Errors of the plugin are not
 * wrapped, because Fastify answers with their status.
 *
 * @param config as for `drizzle()`: schema, casing, logger, cache; relations in Drizzle 1.0
 * @throws FST_PG_SCOPE_QUERY_INVALID when source is none of these
 */
export function drizzleOf<C extends Config> (
  source: Session | Engine | (() => Session | Engine), config?: C
): DatabaseOf<C> {
  checkSource(source, 'drizzleOf()')
  return databaseOn(source, config ?? {}) as DatabaseOf<C>
}

/** Drizzle 0.45 has schemas, 1.0 has relations. */
type Config = Omit<DrizzleConfig<any>, 'schema'> & { schema?: Record<string, unknown>, relations?: unknown }

type DatabaseOf<C> = C extends { relations: infer R } ? NodePgDatabase<R & any>
  : C extends { schema: infer S extends Record<string, unknown> } ? NodePgDatabase<S> : NodePgDatabase
