import type { BatchFailure } from './batch-failure.ts'
import type { Pipeline } from './pipeline.ts'
import { recordStalePlan } from './preparation.ts'
import { Statement } from './statement.ts'
import { maySucceedLater } from './transaction-errors.ts'
import type { TransactionOwner } from './transaction-host.ts'

/**
 * Whether a statement that failed before it ran may have failed only because it was prepared. If that is certain, its
 * error gets the status with which it is tried again.
 */
export function isSuspect ({ unprepared, error }: BatchFailure, failed: Statement | undefined): boolean {
  if (!unprepared) return false
  if (failed?.suspectPlan) return true
  maySucceedLater(error)
  return false
}

/** What is asked of the transaction that has failed. */
interface SuspectTransaction {
  readonly owner: TransactionOwner
  connectionLost (error: unknown): void
}

/** The failed batches of a transaction whose first failure is suspect: they are settled when its cause is known. */
export class SuspectFailure {
  #unsettled: (() => void)[] | null = null

  /** Settles a batch, after the suspect one if there is one. */
  settle (settle: () => void): void {
    if (this.#unsettled === null) settle()
    else this.#unsettled.push(settle)
  }

  /** The error is the statement's own, unless the statement would succeed if it was parsed today. */
  judge (
    transaction: SuspectTransaction, pipeline: Pipeline, statement: Statement, error: unknown, settle: () => void
  ): void {
    this.#unsettled = [settle]
    askForCurrentTypes(pipeline, statement, transaction.owner.innermostSavepoint(transaction), (failure) => {
      if (failure === null) {
        recordStalePlan(pipeline.lease.connection, statement.text, statement.suspectPlan!)
        maySucceedLater(error)
      }
      const unsettled = this.#unsettled!
      this.#unsettled = null
      for (const settle of unsettled) settle()
      if (failure?.lost) transaction.connectionLost(failure.error)
    })
  }
}

/**
 * A prepared statement keeps the types that its parameters had when it was parsed. When it fails before it runs, either
 * a client has sent a wrong value, or a table was altered since. The server decides: EXPLAIN parses the text again,
 * reads the same values and does not run the statement. A failed transaction accepts it only after a rollback.
 *
 * @param savepoint the savepoint in which the statement failed; null: the transaction, which then has ended
 * @param done called with null if the statement would succeed today
 */
function askForCurrentTypes (
  pipeline: Pipeline, { text, values }: Statement, savepoint: string | null,
  done: (failure: BatchFailure | null) => void
): void {
  const rollback = new Statement(savepoint === null ? 'ROLLBACK' : `ROLLBACK TO SAVEPOINT ${savepoint}`, [], true)
  pipeline.send([rollback], 'statement', (failure) => {
    // Sent only now: behind a pooler, what follows ROLLBACK may be another server connection.
    if (failure === null && !pipeline.isReleased) {
      pipeline.send([new Statement(`EXPLAIN ${text}`, values)], 'statement', done)
    } else done(failure)
  })
}
