import type { CallerSettlement } from './caller-settlement.ts'
import type { Outcome } from './managed-session.ts'
import type { Fate } from './savepoint.ts'
import type { Savepoints } from './savepoints.ts'
import type { SessionTransactions } from './session-transactions.ts'

const noop = (): void => {}

/** The session that ends. */
export interface EndingSession {
  /** Ends the savepoints of savepoint() that are open: their work goes with the transaction. */
  endSavepoints (): void
  /** Everything has ended. */
  finished (): void
  /** The error of calls after the end. */
  closedError (): Error
}

/** The end of a session: commits or rolls back, whatever is in progress, and closes. */
export class SessionEnd {
  /** Null until it has begun. A pending commit can become a rollback until COMMIT is sent. */
  outcome: Outcome | null = null
  readonly #session: EndingSession
  readonly #savepoints: Savepoints
  readonly #transactions: SessionTransactions
  readonly #caller: CallerSettlement

  constructor (
    session: EndingSession, savepoints: Savepoints, transactions: SessionTransactions, caller: CallerSettlement
  ) {
    this.#session = session
    this.#savepoints = savepoints
    this.#transactions = transactions
    this.#caller = caller
  }

  get hasBegun (): boolean {
    return this.outcome !== null
  }

  /** @param failure prevents a commit, or null */
  begin (outcome: Outcome, failure: Error | null): Promise<void> {
    this.outcome = outcome
    const fate = outcome === 'commit' ? this.#savepoints.fateOfCaller() : null
    if (outcome === 'commit' && failure === null && fate === null && this.#canCommitAtOnce) return this.#commitAtOnce()
    const end = outcome === 'commit' ? this.#commit(fate) : this.#rollback()
    // Not every caller awaits the end.
    end.catch(noop)
    return end
  }

  /** No savepoint or stream is open, and no caller waits for an answer. */
  get #canCommitAtOnce (): boolean {
    const { state, isStreaming, nothingAwaited } = this.#transactions
    return state === 'active' && !isStreaming && nothingAwaited && this.#savepoints.isEmpty &&
      this.#caller.inProgress === null
  }

  /** The fast path of #commit(): the end of nearly every session. */
  #commitAtOnce (): Promise<void> {
    return this.#transactions.commitAtOnce(true).then(() => this.#session.finished(), (error) => {
      this.#session.finished()
      throw error
    })
  }

  /** @param fate of the transaction(fn) from which a success is sent: without its work there is none */
  async #commit (fate: Fate | null): Promise<void> {
    try {
      if (!this.#savepoints.isFree) await this.#savepoints.whenInnermost(null)
      this.#session.endSavepoints()
      if (this.#caller.failure !== null) throw this.#caller.failure
      if (this.outcome === 'rollback') throw this.#session.closedError()
      await this.#transactions.commit(true, fate)
    } catch (error) {
      if (!this.#transactions.isClosed) await this.#transactions.close()
      throw error
    } finally {
      this.#session.finished()
    }
  }

  async #rollback (): Promise<void> {
    try {
      if (this.#caller.inProgress !== null) {
        // It may be waiting for a running statement.
        if (this.#transactions.state !== 'settling') await this.#stop()
        await this.#caller.inProgress
      }
      await this.#transactions.close()
    } finally {
      this.#session.finished()
    }
  }

  /** The session is to be committed, and COMMIT is not sent yet. */
  get canBecomeRollback (): boolean {
    const { state } = this.#transactions
    return this.outcome === 'commit' && state !== 'settling' && state !== 'closed'
  }

  turnIntoRollback (): void {
    this.outcome = 'rollback'
    this.#savepoints.startAll()
    this.#stop().catch(noop)
  }

  async #stop (): Promise<void> {
    await this.#transactions.open?.stop(this.#session.closedError())
  }
}
