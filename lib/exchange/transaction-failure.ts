import { isPgScopeError } from '../errors.ts'
import type { BatchFailure } from './batch-failure.ts'
import type { Statement } from './statement.ts'
import { transactionAborted } from './transaction-errors.ts'

/** Why a transaction cannot be committed, and with which errors its statements are rejected. */
export class TransactionFailure {
  /** The first failure, or null. */
  error: Error | null = null
  /** Why the transaction is being stopped, or null. It replaces the other errors. */
  stopReason: Error | null = null

  /** The error of statements and COMMIT after the first failure. */
  refusal (): Error {
    return isPgScopeError(this.error) ? this.error : transactionAborted(this.error)
  }

  /** Rejects statements that were called after the first failure. */
  refuse (statements: readonly Statement[]): void {
    if (statements.length === 0) return
    const error = this.stopReason ?? this.refusal()
    for (const statement of statements) statement.fail(statement.rejection ?? error)
  }

  /**
   * Settles the statements of a batch that the server rejected.
   *
   * @param error of the rejected statement; null: the transaction had failed before, and the server says only that
   * @param isBegun BEGIN has succeeded
   */
  settle (
    statements: readonly Statement[], { statement: index, unsent }: BatchFailure, error: unknown, isBegun: boolean
  ): void {
    for (const [i, statement] of statements.entries()) {
      if (i < index && !unsent) statement.succeed()
      else if (error !== null && (i === index || !isBegun)) statement.fail(this.stopReason ?? error)
      else this.refuse([statement])
    }
  }
}
