import type { ConnectionOwner } from '../pool/work-context.ts'
import type { Counters } from '../pool/counters.ts'
import type { Pool } from '../pool/pool.ts'
import type { TraceContext } from './trace-context.ts'
import type { ReplicaChoice } from './replica-route.ts'
import type { TransactionIdentity } from './transaction-identity.ts'
import type { WalPosition } from '../postgres/wal-position.ts'
import type { Writer } from './written-position.ts'
import type { EngineIdentity, SessionIdentity } from '../../types/telemetry.ts'

/** What a transaction or a single statement needs of the engine. */
export interface TransactionHost {
  /** The pool of the primary. */
  readonly pool: Pool
  /** Null without replicas. */
  readonly replicas: ReplicaChoice | null
  /** What a replica must have replayed before it serves this session, or null. */
  readonly notBefore: WalPosition | null
  readonly counters: Counters
  /** For telemetry. */
  readonly engineIdentity: EngineIdentity
  /** Null without the option `traceContext`. */
  readonly traceContext: TraceContext | null
  /** Finds out the outcome of a COMMIT that is not answered; null without `resolveCommits`. */
  readonly outcomes: Outcomes | null
}

export interface Outcomes {
  /** @returns null if the transaction is committed, otherwise the error for its session */
  resolve (identity: TransactionIdentity, lost: unknown): Promise<Error | null>
}

/** The session that a transaction belongs to. */
export interface TransactionOwner extends ConnectionOwner, SessionIdentity, Writer {
  /** The connection is lost or could not be acquired: the transaction can only be rolled back. */
  lost (): void
  /** The innermost savepoint that was sent in this transaction, as it is written in SQL, or null. */
  innermostSavepoint (transaction: object): string | null
}
