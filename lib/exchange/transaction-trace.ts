import { isPgScopeError } from '../errors.ts'
import type { EngineIdentity, SessionIdentity, TransactionEvent } from '../../types/telemetry.ts'
import { transactionChannel } from '../telemetry/channels.ts'
import { Operation, OperationEvent } from '../telemetry/operation.ts'
import type { RequestLabel } from '../telemetry/request-label.ts'
import type { Statement } from './statement.ts'

/** A transaction on its tracing channel. */
export class TransactionTrace extends Operation<TransactionEvent> {
  /**
   * COMMIT was answered.
   *
   * @param result an error: why it is not committed
   * @param since performance.now() when it had a connection, or null
   */
  committed (result: 'committed' | Error, since: number | null): void {
    if (result === 'committed') this.ended(result, null, since)
    else this.ended('rolledBack', result, since)
  }

  /** @param error why it cannot be committed, or null */
  rolledBack (error: unknown, since: number | null = null): void {
    this.ended('rolledBack', error, since)
  }

  /** Statements of the transaction have succeeded. */
  answered (statements: readonly Statement[]): void {
    for (const { describes, rowCount } of statements) {
      if (!describes) continue
      this.event.statements++
      this.event.rows += rowCount
    }
  }

  /** A savepoint was released. */
  released (): void {
    this.ended('released', null, null)
  }

  private ended (outcome: NonNullable<TransactionEvent['outcome']>, error: unknown, since: number | null): void {
    if (this.isEnded) return
    const { event } = this
    event.outcome = isUnknown(error) ? 'unknown' : outcome
    if (since !== null) event.waitTime = since - event.startTime
    if (error === null) this.succeed()
    else this.fail(error)
  }
}

/** COMMIT was not answered, or a statement has ended the transaction. */
function isUnknown (error: unknown): boolean {
  return isPgScopeError(error) &&
    (error.code === 'FST_PG_SCOPE_COMMIT_UNKNOWN' || error.code === 'FST_PG_SCOPE_TRANSACTION_CONTROL')
}

class BegunTransaction extends OperationEvent implements TransactionEvent {
  readonly session: SessionIdentity
  readonly kind: TransactionEvent['kind']
  readonly name: string
  readonly readOnly: boolean
  statements = 0
  rows = 0
  waitTime?: number = undefined
  outcome?: NonNullable<TransactionEvent['outcome']> = undefined

  constructor (
    engine: EngineIdentity, session: SessionIdentity, label: RequestLabel | undefined, kind: TransactionEvent['kind'],
    name: string, readOnly: boolean
  ) {
    super(engine, label)
    this.session = session
    this.kind = kind
    this.name = name
    this.readOnly = readOnly
  }
}

/** Publishes the start of a transaction or savepoint. Null without subscribers. */
export function traceTransaction (
  engine: EngineIdentity, session: SessionIdentity, label: RequestLabel | undefined, name: string, readOnly: boolean,
  kind: TransactionEvent['kind'] = 'transaction'
): TransactionTrace | null {
  if (!transactionChannel.hasSubscribers) return null
  const event = new BegunTransaction(engine, session, label, kind, name, readOnly)
  return new TransactionTrace(transactionChannel, event)
}
