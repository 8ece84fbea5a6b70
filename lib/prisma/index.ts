import type { Engine } from '../../types/engine.ts'
import type { Session } from '../../types/session.ts'
import { checkSource, currentOr, isEngine, type LibrarySource } from '../library-source.ts'
import { adapterName, SessionAdapter } from './session-adapter.ts'
import type { DriverAdapter } from './driver-adapter.ts'

export { separateSessions, type SeparateSessions } from './separate-sessions.ts'
export type { DriverAdapter } from './driver-adapter.ts'

export interface PrismaOptions {
  /** The schema of the tables for which Prisma's schema names none. Default: as the server's `search_path` says. */
  schema?: string | undefined
}

/**
 * A driver adapter for Prisma 7, whose statements run on a session: `new PrismaClient({ adapter: new
 * PrismaPgScope(app.db) })`.
 *
 * - On an engine (`app.db`), in a request, scope(fn) or transaction(fn): statements run in the current session, as
 *   `app.db.current()` finds it. Elsewhere each is committed by itself, and a transaction is a real one. A client that
 *   many requests share needs {@link separateSessions}, too.
 * - On a session (`request.db`): all statements run there.
 * - A function is called for each statement and transaction.
 *
 * In a session `$transaction()` is a savepoint, and the request still decides over all of it.
 *
 * Errors of the server are Prisma's (P2002, …), with the SQLSTATE as `meta.driverAdapterError.cause.originalCode`. An
 * error of the plugin is the `cause` of one that has its message, status and headers.
 *
 * @throws FST_PG_SCOPE_QUERY_INVALID when source is none of these
 */
export class PrismaPgScope {
  readonly provider = 'postgres'
  readonly adapterName = adapterName
  readonly #source: LibrarySource
  readonly #schema: string | undefined

  constructor (source: Session | Engine | (() => Session | Engine), options: PrismaOptions = {}) {
    checkSource(source, 'new PrismaPgScope()')
    this.#source = typeof source === 'object' && isEngine(source) ? () => currentOr(source) : source
    this.#schema = options.schema
  }

  /** Called by Prisma. Opens no connection: the engine's pool does. */
  async connect (): Promise<DriverAdapter> {
    return new SessionAdapter(this.#source, this.#schema)
  }
}
