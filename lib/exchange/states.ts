import { pgScopeError } from '../errors.ts'

/**
 * - `opening`: waits for a connection or for the answer to BEGIN
 * - `active`: BEGIN was answered; statements are sent as they are called
 * - `failed`: a statement failed, or no connection was available; only a rollback is possible
 * - `settling`: COMMIT or ROLLBACK is in progress
 * - `ended`: it has no connection and accepts no statements
 */
export type TransactionState = 'opening' | 'active' | 'failed' | 'settling' | 'ended'

/** The allowed changes of a transaction's state. A session without a transaction is `idle` or `closed`. */
export const moves: Readonly<Record<TransactionState, readonly TransactionState[]>> = {
  opening: ['active', 'failed', 'settling'], // failed: also if no connection was available
  active: ['failed', 'settling'],
  failed: ['active', 'settling'], // active: after ROLLBACK TO SAVEPOINT
  settling: ['ended'],
  ended: []
}

/** The state of a transaction. Every change goes through the table. */
export class Progress {
  #state: TransactionState = 'opening'

  get state (): TransactionState {
    return this.#state
  }

  to (next: TransactionState): void {
    if (!moves[this.#state].includes(next)) {
      const allowed = moves[this.#state].join(', ') || 'none'
      throw pgScopeError('FST_PG_SCOPE_SESSION_STATE', `A transaction that is ${this.#state} cannot become ${next}; ` +
        `allowed next states: ${allowed}. This is a defect of fastify-pg-scope: please report it.`)
    }
    this.#state = next
  }
}
