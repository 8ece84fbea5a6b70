import type { ConnectionOwner } from '../pool/work-context.ts'
import type { Counters } from '../pool/counters.ts'
import type { Pool } from '../pool/pool.ts'
import type { TransactionIdentity } from './transaction-identity.ts'
import type { EngineIdentity } from '../../types/telemetry.ts'

/** What a transaction or a single statement needs of the engine. */
export interface TransactionHost {
  readonly pool: Pool
  readonly counters: Counters
  /** For telemetry. */
  readonly engineIdentity: EngineIdentity
  /** Finds out the outcome of a COMMIT that is not answered; null without `resolveCommits`. */
  readonly outcomes: Outcomes | null
}

export interface Outcomes {
  /** @returns null if the transaction is committed, otherwise the error for its session */
  resolve (identity: TransactionIdentity, lost: unknown): Promise<Error | null>
}

/** The session that a transaction belongs to. */
export interface TransactionOwner extends ConnectionOwner {
  /** The connection is lost or could not be acquired: the transaction can only be rolled back. */
  lost (): void
  /** The innermost savepoint that was sent in this transaction, as it is written in SQL, or null. */
  innermostSavepoint (transaction: object): string | null
}
