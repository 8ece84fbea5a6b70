import { pgScopeError } from '../errors.ts'
import type { SessionState } from '../../types/session.ts'

/**
 * The moves that a session may make. `idle` holds no connection; `opening` waits for one, or for the answer to BEGIN;
 * `closed` is final.
 */
export const moves: Readonly<Record<SessionState, readonly SessionState[]>> = {
  idle: ['opening', 'closed'],
  opening: ['active', 'failed', 'settling'], // failed: also where no connection could be had
  active: ['failed', 'settling'],
  failed: ['active', 'settling'], // active: by ROLLBACK TO SAVEPOINT
  settling: ['idle', 'closed'],
  closed: []
}

/** Where a session is. Every change of it goes through the table. */
export class Progress {
  #state: SessionState = 'idle'

  get state (): SessionState {
    return this.#state
  }

  to (next: SessionState): void {
    if (!moves[this.#state].includes(next)) {
      throw pgScopeError('FST_PG_SCOPE_SESSION_STATE', `A session that is ${this.#state} cannot become ${next}; allowed from here: ${moves[this.#state].join(', ') || 'nothing'}. This is a defect of fastify-pg-scope: please report it.`)
    }
    this.#state = next
  }
}
