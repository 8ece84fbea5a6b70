import type { Engine } from '../../types/engine.ts'
import type { Session } from '../../types/session.ts'

/** The session that the running code belongs to, or null: GraphQL may also be executed outside of requests. */
export function currentSession (engine: Engine): Session | null {
  try {
    return engine.current()
  } catch (error) {
    if ((error as { code?: string }).code === 'FST_PG_SCOPE_NO_SESSION') return null
    throw error
  }
}
