import type { Engine } from '../../types/engine.ts'
import type { Session } from '../../types/session.ts'
import { checkEngine, currentSessionOf } from '../library-source.ts'

/** An operation of Prisma's client, as its extensions see it. */
interface Operation {
  args: any
  query: (args: any) => Promise<any>
}

/** An extension for Prisma's `$extends()`. */
export interface SeparateSessions {
  name: string
  query: { $allOperations: (operation: Operation) => Promise<any> }
}

/**
 * An extension for a client that many requests share: `new PrismaClient({ adapter: new PrismaPgScope(app.db)
 * }).$extends(separateSessions(app.db))`.
 *
 * Prisma gathers the `findUnique()` and the `$transaction([…])` that are called in one turn of the event loop, and
 * sends all of them from the async context of the first call. Two requests of one turn (HTTP pipelining, HTTP/2) would
 * then share the first one's session. With the extension the calls of another session wait for the next turn. Other
 * extensions that wait for something must be added before this one.
 *
 * @throws FST_PG_SCOPE_QUERY_INVALID when engine is not one
 */
export function separateSessions (engine: Engine): SeparateSessions {
  checkEngine(engine, 'separateSessions()')
  /** Whose calls may reach Prisma in this turn: a session, null for those outside of all sessions. */
  let turn: { owner: Session | null, ended: Promise<void> } | null = null
  return {
    name: 'fastify-pg-scope',
    query: {
      async $allOperations ({ args, query }) {
        const owner = currentSessionOf(engine)
        for (let other = turn; other !== null && other.owner !== owner; other = turn) await other.ended
        // An immediate runs after everything that this turn has caused, and Prisma's next tick is a part of that.
        turn ??= { owner, ended: new Promise((resolve) => setImmediate(() => { turn = null; resolve() })) }
        return await query(args)
      }
    }
  }
}
