import pg, { type CustomTypesConfig, type Pool, type PoolClient } from 'pg'
import { checkEngine, checkSource, currentOr, targetOf } from '../library-source.ts'
import type { Engine } from '../../types/engine.ts'
import type { Session } from '../../types/session.ts'
import { EnginePool } from './engine-pool.ts'
import { SessionClient } from './session-client.ts'

export interface PgOptions {
  /** Type parsers for all statements, as in pg's own config: a library that brings its own may ask for them. */
  types?: CustomTypesConfig | undefined
}

/**
 * A client of pg for libraries, whose statements run on a session, such as `request.db`.
 *
 * - BEGIN, SAVEPOINT, COMMIT and ROLLBACK sent by the library are savepoints of the session. The request still decides
 *   over all of it.
 * - On an engine (`app.db`) each statement is committed by itself, and BEGIN … COMMIT are a transaction of their own.
 * - A function is called for each statement outside of such transactions, and for each BEGIN.
 *
 * pg-cursor and pg-query-stream work on it for SELECT. `release()` and `end()` roll back what the library left open.
 *
 * @throws FST_PG_SCOPE_QUERY_INVALID when source is none of these
 */
export function clientOf (source: Session | Engine | (() => Session | Engine), options?: PgOptions): PoolClient {
  checkSource(source, 'clientOf()')
  return new SessionClient(() => targetOf(source), options) as unknown as PoolClient
}

/**
 * A pool of pg for libraries. In a request, scope(fn) or transaction(fn) of the engine its clients are those of the
 * current session, as `app.db.current()` finds it; elsewhere each statement is committed by itself, and BEGIN … COMMIT
 * are a transaction of their own. `end()` ends the use of this pool alone.
 *
 * @throws FST_PG_SCOPE_QUERY_INVALID when engine is not one
 */
export function poolOf (engine: Engine, options?: PgOptions): Pool {
  checkEngine(engine, 'poolOf()')
  return new EnginePool(engine, options) as unknown as Pool
}

/**
 * The module of pg for libraries that make pools and clients by themselves: its Pool and Client are those of poolOf()
 * and clientOf(), and follow the current session. Everything else is pg's.
 *
 * @throws FST_PG_SCOPE_QUERY_INVALID when engine is not one
 */
export function driverOf (engine: Engine): typeof pg {
  checkEngine(engine, 'driverOf()')
  class Pool extends EnginePool {
    constructor (options?: PgOptions) {
      super(engine, options)
    }
  }
  class Client extends SessionClient {
    constructor (options?: PgOptions) {
      super(() => currentOr(engine), options)
    }
  }
  return Object.create(pg, { Pool: { enumerable: true, value: Pool }, Client: { enumerable: true, value: Client } })
}
