import { cancelRunning } from './cancellation.ts'
import type { Pipeline } from './pipeline.ts'
import type { StatementSignal } from './statement-signal.ts'
import { transactionAborted } from './transaction-errors.ts'
import type { TransactionStart } from './transaction-start.ts'
import type { UnansweredStatements } from './unanswered-statements.ts'

/** The transaction whose statements are cancelled. */
export interface CancelableTransaction {
  /** Fails it, and rejects its queued statements with the reason. */
  failBecauseStopped (reason: Error): void
  fail (error: unknown): void
  /** Fails it because of its first call, which must not be sent: it needs no connection any more. */
  rejectUnsent (error: unknown): void
}

/** Cancels what a transaction has asked of the server: everything at its end, or the statement of a signal. */
export class TransactionCancel {
  /** Resolves when everything is cancelled; null before stop(). */
  stopped: Promise<void> | null = null
  readonly #transaction: CancelableTransaction
  readonly #start: TransactionStart
  readonly #statements: UnansweredStatements

  constructor (transaction: CancelableTransaction, start: TransactionStart, statements: UnansweredStatements) {
    this.#transaction = transaction
    this.#start = start
    this.#statements = statements
  }

  /** Cancels running statements and rejects queued ones. Afterwards the transaction can only be rolled back. */
  stop (reason: Error): Promise<void> {
    this.stopped ??= this.#stop(reason)
    return this.stopped
  }

  async #stop (reason: Error): Promise<void> {
    this.#transaction.failBecauseStopped(reason)
    const pipeline = this.#statements.connected
    if (pipeline === null) this.#start.cancel()
    else await cancelRunning(pipeline)
    if (pipeline?.isRunning) pipeline.release()
    this.#statements.changed()
  }

  /**
   * The signal of a call was aborted: cancels the call if it was sent; otherwise it is never sent.
   *
   * @returns whether it was sent; its answer then decides the result
   */
  cancel (signal: StatementSignal): boolean {
    const { pipeline, connected, queue } = this.#statements
    if (pipeline?.runs(signal)) {
      if (this.stopped === null) this.#cancelStatement(signal, pipeline)
      return true
    }
    // If it is the first statement, the transaction needs no connection any more.
    const needsNothing = connected === null && queue.isFirst(signal) && this.#start.cancel()
    if (needsNothing) this.#transaction.rejectUnsent(signal.error)
    return false
  }

  async #cancelStatement (signal: StatementSignal, pipeline: Pipeline): Promise<void> {
    await cancelRunning(pipeline.running(signal))
    if (!pipeline.runs(signal) || pipeline.isReleased) return
    // The server did not react, or cannot be reached.
    this.#transaction.fail(transactionAborted(signal.error))
    pipeline.lease.connection.destroy()
  }
}
