import type { Kysely } from 'kysely'
import type { Engine } from '../../types/engine.ts'
import type { Session } from '../../types/session.ts'
import { checkSource } from '../library-source.ts'
import type { KyselyOptions } from './options.ts'
import { SessionKysely } from './session-kysely.ts'

export type { KyselyOptions } from './options.ts'

/**
 * A Kysely instance whose statements run on a session, such as `request.db`. It costs little: make one for each
 * request.
 *
 * - `db.transaction().execute(fn)` is a `transaction(fn)` of the session, `db.startTransaction()` a `savepoint()`.
 * - On an engine (`app.db`) each statement is committed by itself, a transaction is a `scope(fn)`, and `connection()` a
 *   `lease(fn)`.
 * - A function is called for each statement and transaction. `kyselyOf(() => app.db.current())` follows the running
 *   request.
 *
 * Errors are those of the session: pg's DatabaseError, or the plugin's.
 *
 * @throws FST_PG_SCOPE_QUERY_INVALID when source is none of these
 */
export function kyselyOf<DB> (
  source: Session | Engine | (() => Session | Engine), options: KyselyOptions = {}
): Kysely<DB> {
  checkSource(source, 'kyselyOf()')
  return SessionKysely.of<DB>(source, options)
}
