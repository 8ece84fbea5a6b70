import { pgScopeError } from '../errors.ts'
import type { SessionState } from '../../types/session.ts'

/**
 * The allowed changes of a session's state.
 *
 * - `idle`: holds no connection
 * - `opening`: waits for a connection or for the answer to BEGIN
 * - `active`: BEGIN was answered; statements are sent as they are called
 * - `failed`: a statement failed, or no connection was available; only a rollback is possible
 * - `settling`: COMMIT or ROLLBACK is in progress
 * - `closed`: final
 */
export const moves: Readonly<Record<SessionState, readonly SessionState[]>> = {
  idle: ['opening', 'closed'],
  opening: ['active', 'failed', 'settling'], // failed: also if no connection was available
  active: ['failed', 'settling'],
  failed: ['active', 'settling'], // active: after ROLLBACK TO SAVEPOINT
  settling: ['idle', 'closed'],
  closed: []
}

/** The state of a session. Every change goes through the table. */
export class Progress {
  #state: SessionState = 'idle'

  get state (): SessionState {
    return this.#state
  }

  to (next: SessionState): void {
    if (!moves[this.#state].includes(next)) {
      const allowed = moves[this.#state].join(', ') || 'none'
      throw pgScopeError('FST_PG_SCOPE_SESSION_STATE', `A session that is ${this.#state} cannot become ${next}; ` +
        `allowed next states: ${allowed}. This is a defect of fastify-pg-scope: please report it.`)
    }
    this.#state = next
  }
}
