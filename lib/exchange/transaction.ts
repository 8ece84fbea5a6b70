import type { Lease } from '../pool/lease.ts'
import { failureKind } from '../postgres/sqlstate.ts'
import type { BatchFailure } from './batch-failure.ts'
import { sendCommit, sendRollback, sendRollbackTo } from './commit.ts'
import { isSuspect, SuspectFailure } from './parameter-types.ts'
import { connectionLost, endedByStatement, transactionAborted, withStatus } from './transaction-errors.ts'
import { type CancelableTransaction, TransactionCancel } from './transaction-cancel.ts'
import { TransactionFailure } from './transaction-failure.ts'
import type { TransactionHost, TransactionOwner } from './transaction-host.ts'
import type { TransactionConfig, Settings } from './transaction-config.ts'
import { abortedBySignal, type StartingTransaction, TransactionStart } from './transaction-start.ts'
import { type TransactionTrace, traceTransaction } from './transaction-trace.ts'
import type { Pipeline, PipelineOwner } from './pipeline.ts'
import { Progress, type TransactionState } from './states.ts'
import type { Statement } from './statement.ts'
import type { StatementSignal } from './statement-signal.ts'
import { UnansweredStatements } from './unanswered-statements.ts'

/**
 * One transaction on one connection, from BEGIN to COMMIT or ROLLBACK. `states.ts` has its states.
 *
 *     start() ─► TransactionStart ─► begin() ─► Pipeline ─► batchAnswered() ─► commit() or rollback()
 *                settings, acquire   BEGIN      statements  success or failure
 */
export class Transaction implements StartingTransaction, CancelableTransaction, PipelineOwner {
  /** It failed before it asked for a connection. */
  neverAcquired = false
  /** performance.now() when it acquired its connection, or null. */
  since: number | null = null
  readonly owner: TransactionOwner
  readonly #host: TransactionHost
  readonly #config: TransactionConfig
  readonly #progress = new Progress()
  readonly #failure = new TransactionFailure()
  readonly #start: TransactionStart
  readonly #statements = new UnansweredStatements()
  readonly #cancel: TransactionCancel
  readonly #suspect = new SuspectFailure()
  readonly #trace: TransactionTrace | null

  constructor (
    host: TransactionHost, config: TransactionConfig, settings: Settings | Promise<Settings> | undefined,
    owner: TransactionOwner, label?: TransactionStart['label']
  ) {
    this.owner = owner
    this.#host = host
    this.#config = config
    this.#statements.follow(host, config, owner)
    this.#start = new TransactionStart(this, host, config, label)
    this.#trace = traceTransaction(host.engineIdentity, owner, label, config.begin, config.readOnly)
    this.#cancel = new TransactionCancel(this, this.#start, this.#statements)
    this.#start.use(settings)
  }

  get state (): TransactionState {
    return this.#progress.state
  }

  /** Acquires a connection for BEGIN and the first statements. */
  start (statements: readonly Statement[]): void {
    this.#statements.queue.put(statements)
    this.#start.acquire()
  }

  /** Fails before it acquires a connection, for example because the user's settings(request) threw. */
  refuseAll (error: Error, statements: readonly Statement[]): void {
    this.settingsFailed(error)
    for (const statement of statements) statement.fail(error)
  }

  /** Sends statements in the order of the calls, without waiting for each other where that is safe. */
  submit (statements: readonly Statement[]): void {
    if (this.state === 'failed') return this.#failure.refuse(statements)
    // While BEGIN is unanswered they wait: after a BEGIN that fails they would run outside the transaction.
    this.#statements.queue.put(statements)
    if (this.state === 'active') this.#flush()
  }

  #flush (): void {
    const rejection = this.#statements.flush()
    if (rejection !== null) this.#rejectedCall(rejection)
  }

  get awaitsSettings (): boolean {
    return this.#start.awaitsSettings
  }

  settingsAlterMeaning (): void {
    this.#statements.queue.prepareNone()
  }

  settingsFailed (error: Error): void {
    this.neverAcquired = true
    this.fail(error)
    this.#statements.failQueued(error)
  }

  /** No statement is queued or unanswered. */
  get isIdle (): boolean {
    return this.#statements.isEmpty
  }

  get nothingAwaited (): boolean {
    return this.#statements.nothingAwaited
  }

  get isEnded (): boolean {
    return this.state === 'ended'
  }

  /** Its connection is lost or could not be acquired. */
  get isLost (): boolean {
    return this.#statements.connected === null && !this.neverAcquired
  }

  settled (): Promise<void> {
    return this.#statements.settled()
  }

  changed (): void {
    this.#statements.changed()
  }

  /** The error of statements and COMMIT after the transaction has failed. */
  refusal (): Error {
    return this.#failure.refusal()
  }

  /** Requires nothingAwaited and a connection. */
  commit (): Promise<void> {
    this.#progress.to('settling')
    return new Promise((resolve, reject) => {
      sendCommit(this.#statements, this.#host, this.#start.pool, this.#config.commitLatency, (failure) => {
        this.#failure.error ??= failure
        this.#finish()
      }, (outcome) => {
        const result = outcome === 'rolled back' ? this.refusal() : outcome
        this.#trace?.committed(result, this.since)
        if (result === 'committed') resolve()
        else reject(result)
      })
    })
  }

  /**
   * Rolls back and returns the connection, in any state. Never rejects.
   *
   * @param reason makes the error of running statements, which are cancelled on the server. Without it, none may be
   * running.
   */
  async rollback (reason?: () => Error): Promise<void> {
    const mayHandOver = this.state === 'active' && this.isIdle
    this.#progress.to('settling')
    this.#host.counters.rolledBack++
    if (reason !== undefined && !this.isIdle) this.stop(reason())
    if (this.#cancel.stopped !== null) await this.#cancel.stopped
    const pipeline = this.#statements.connected
    // A suspect failure has sent ROLLBACK already.
    if (pipeline !== null && (pipeline.isRunning || !pipeline.lease.connection.clean)) {
      await sendRollback(pipeline, this.#start.pool, mayHandOver ? this.#config.commitLatency : null)
    }
    this.#finish()
    this.#trace?.rolledBack(this.#failure.error, this.since)
  }

  #finish (): void {
    this.#progress.to('ended')
    this.#statements.pipeline?.release()
  }

  /** Makes a failed transaction active again. Resolves even on an error. Requires a connection. */
  rollbackTo (savepoint: string): Promise<void> {
    return new Promise((resolve) => sendRollbackTo(this.#statements.pipeline!, savepoint, (failure) => {
      // Decided synchronously with the answer: a microtask later the connection may be lost.
      if (failure === null) {
        if (this.state === 'failed' && !this.isLost) {
          this.#failure.error = null
          this.#progress.to('active')
        }
        // A cursor may have queued FETCH meanwhile, which does not wait for its turn.
        if (this.state === 'active') this.#flush()
      } else {
        // Replaces the error inside the savepoint, which its caller handles, by the error of ROLLBACK TO.
        this.#failure.error = null
        if (failure.lost) this.connectionLost(failure.error)
        else this.fail(failure.error)
      }
      resolve()
    }))
  }

  /** Cancels running statements. Afterwards the transaction can only be rolled back. */
  stop (reason: Error): Promise<void> {
    return this.#cancel.stop(reason)
  }

  /** The signal of a call was aborted. @returns whether the call was sent; its answer then decides the result */
  cancel (signal: StatementSignal): boolean {
    return this.#cancel.cancel(signal)
  }

  failBecauseStopped (reason: Error): void {
    this.#failure.stopReason = reason
    this.fail(reason)
    this.#refuseQueued()
  }

  rejectUnsent (error: unknown): void {
    this.neverAcquired = true
    this.#rejectedCall(error)
  }

  canceled (): void {
    this.#host.counters.canceled++
  }

  begin (lease: Lease): void {
    this.since ??= performance.now()
    const pipeline = this.#statements.sendOver(lease, this, this.#config.answerTimeout)
    const { connection } = lease
    pipeline.write(this.#start.firstBatch(connection, this.#statements.queue.takeFirstBatch(connection)))
  }

  refused (error: Error): void {
    this.fail(error)
    this.#statements.failQueued(error)
    this.owner.lost()
  }

  batchAnswered (statements: readonly Statement[], failure: BatchFailure | null): void {
    const pipeline = this.#statements.pipeline!
    if (failure === null) this.#succeeded(statements, pipeline)
    else if (this.state !== 'opening' || !this.#start.resend(statements, failure, this.#statements)) {
      if (failure.lost) {
        this.connectionLost(failure.error)
        this.#failure.refuse(statements)
      } else this.#failed(statements, failure)
    }
  }

  #succeeded (statements: readonly Statement[], { lease }: Pipeline): void {
    for (const statement of statements) statement.succeed()
    this.#trace?.answered(statements)
    // CLOSE may be answered after COMMIT was sent and the connection was handed to another session.
    const isIdle = !lease.isReturned && lease.connection.clean
    if (isIdle || statements.some((statement) => statement.endsTransaction)) {
      // For example a COMMIT in a text of several statements.
      this.fail(endedByStatement())
      return this.#refuseQueued()
    }
    if (this.state === 'opening') {
      this.#progress.to('active')
      this.#start.pool.recordRoundTrip(performance.now() - this.since!)
    }
    const unusable = statements.find((statement) => statement.resultError !== null)
    if (unusable !== undefined) this.#rejectedCall(unusable.resultError)
    else if (this.state === 'active') this.#flush()
  }

  #failed (statements: readonly Statement[], failure: BatchFailure): void {
    const isOpening = this.state === 'opening'
    const canceled = failureKind(failure.error) === 'canceled' ? abortedBySignal(statements) : null
    const failed = statements[failure.statement]
    const suspect = !isOpening && isSuspect(failure, failed)
    const isBegun = !isOpening || failed === undefined || !this.#start.isInternal(failed)
    // Statements that were sent to an already failed transaction are rejected with its first failure.
    const isFirst = this.#failure.error === null || failureKind(failure.error) !== 'aborted-transaction'
    if (isFirst) this.fail(canceled === null ? failure.error : transactionAborted(canceled))
    const settle = (): void => {
      this.#failure.settle(statements, failure, isFirst ? canceled ?? withStatus(failure.error) : null, isBegun)
      this.#refuseQueued()
    }
    if (!suspect || !isFirst || this.#cancel.stopped !== null) return this.#suspect.settle(settle)
    this.#suspect.judge(this, this.#statements.pipeline!, failed!, failure.error, settle)
  }

  /** A call was not sent, or its result is unusable, although the server's transaction is healthy. */
  #rejectedCall (error: unknown): void {
    this.fail(transactionAborted(error))
    this.#refuseQueued()
    this.changed()
  }

  connectionLost (error: unknown): void {
    this.fail(connectionLost(error))
    this.#statements.pipeline?.release(true)
    this.#refuseQueued()
    this.changed()
    this.owner.lost()
  }

  fail (error: unknown): void {
    this.#failure.error ??= error as Error
    if (this.state === 'opening' || this.state === 'active') this.#progress.to('failed')
  }

  #refuseQueued (): void {
    this.#failure.refuse(this.#statements.takeQueued())
  }
}
