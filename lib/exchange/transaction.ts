import { isPgScopeError, pgScopeError } from '../errors.ts'
import type { PendingCommit } from '../pool/hand-over.ts'
import type { ConnectionOwner } from '../pool/work-context.ts'
import type { Lease } from '../pool/lease.ts'
import type { Counters } from '../pool/counters.ts'
import type { Pool } from '../pool/pool.ts'
import { failureKind, isOfValue } from '../postgres/sqlstate.ts'
import { cancelRunning } from './cancellation.ts'
import type { BatchFailure } from './batch-failure.ts'
import {
  commitError, connectionLost, maySucceedLater, transactionAborted, unknownOutcome, withStatus
} from './transaction-errors.ts'
import type { TransactionConfig, Settings } from './transaction-config.ts'
import { type StartingTransaction, TransactionStart } from './transaction-start.ts'
import { Pipeline, type PipelineOwner } from './pipeline.ts'
import type { Progress } from './states.ts'
import { Statement } from './statement.ts'
import type { StatementSignal } from './statement-signal.ts'

/** What a transaction needs of the engine. */
export interface TransactionHost {
  readonly pool: Pool
  readonly counters: Counters
}

/** The session that a transaction belongs to. */
export interface TransactionOwner extends ConnectionOwner {
  /** The connection is lost or could not be acquired: the transaction can only be rolled back. */
  lost (): void
}

/** How long ROLLBACK may take to be answered. Milliseconds. */
const rollbackTimeout = 5000

/** The error of a batch's aborted signal, or null. Only the last statement of a batch can have a signal of its own. */
function signalError (statements: readonly Statement[]): unknown {
  return statements.at(-1)!.rejection
}

/**
 * One transaction on one connection, from BEGIN to COMMIT or ROLLBACK. A session makes it for its first statement and
 * calls submit(), commit(), rollback(), rollbackTo() and stop(). `states.ts` has its states.
 *
 *     submit() ─► TransactionStart ─► begin() ─► Pipeline ─► batchAnswered() ─► commit() or rollback()
 *                 settings, acquire   BEGIN      statements  success or failure
 */
export class Transaction implements StartingTransaction, PipelineOwner {
  /** Why it cannot be committed, or null. */
  failure: Error | null = null
  /** It has no connection and accepts no statements. */
  isEnded = false
  /** It failed before it asked for a connection. */
  neverAcquired = false
  /** performance.now() when it acquired its connection, or null. */
  since: number | null = null
  readonly owner: TransactionOwner
  readonly label: string | undefined
  readonly #host: TransactionHost
  readonly #progress: Progress
  readonly #config: TransactionConfig
  readonly #start: TransactionStart
  readonly #pipeline: Pipeline
  /** The error of its statements while it is being stopped, or null. */
  #stopReason: Error | null = null
  /** Resolves when the running statements are cancelled. */
  #stopped: Promise<void> | null = null
  /** A statement or setting may have changed what texts mean: nothing more is prepared automatically. */
  #isMeaningAltered = false

  constructor (
    host: TransactionHost, progress: Progress, config: TransactionConfig,
    settings: Settings | Promise<Settings> | undefined, owner: TransactionOwner, label?: string
  ) {
    this.owner = owner
    this.label = label
    this.#host = host
    this.#progress = progress
    this.#config = config
    this.#pipeline = new Pipeline(this, config.answerTimeout)
    this.#start = new TransactionStart(this, host.pool, config)
    this.#start.use(settings)
  }

  /** Sends statements in the order of the calls, without waiting for each other where that is safe. */
  submit (statements: Statement[]): void {
    const { state } = this.#progress
    if (state === 'failed') return this.#refuse(statements)
    for (const statement of statements) {
      this.#isMeaningAltered ||= statement.altersMeaning
      if (this.#isMeaningAltered) statement.automatic = false
    }
    // They wait until BEGIN is answered: after a BEGIN that fails they would run outside the transaction.
    this.#pipeline.put(statements)
    if (state === 'active') this.#pipeline.flush()
    else if (state === 'idle') {
      this.#progress.to('opening')
      this.#start.acquire()
    }
  }

  get awaitsSettings (): boolean {
    return this.#start.awaitsSettings
  }

  settingsAlterMeaning (): void {
    this.#isMeaningAltered = true
    for (const statement of this.#pipeline.queued) statement.automatic = false
  }

  settingsFailed (error: Error): void {
    this.neverAcquired = true
    this.#fail(error)
    this.#failQueued(error)
  }

  /** No statement is queued or unanswered. */
  get isIdle (): boolean {
    return this.#pipeline.isIdle
  }

  /** No caller waits for an answer. An internal statement such as CLOSE may be unanswered: COMMIT can follow it. */
  get nothingAwaited (): boolean {
    return this.#pipeline.nothingAwaited
  }

  /** Its connection is lost or could not be acquired. */
  get isLost (): boolean {
    return this.#pipeline.lease === null && !this.neverAcquired
  }

  /** Resolves when every submitted statement is answered. */
  settled (): Promise<void> {
    return this.#pipeline.settled()
  }

  /** The error of statements and COMMIT after the transaction has failed. */
  refusal (): Error {
    return isPgScopeError(this.failure) ? this.failure : transactionAborted(this.failure)
  }

  /** Sends COMMIT and interprets its answer. Requires nothingAwaited. */
  commit (): Promise<void> {
    this.#progress.to('settling')
    const commit = new Statement('COMMIT', [], true)
    return new Promise((resolve, reject) => {
      this.#sendEnd(commit, true, (failure) => {
        // After the tag COMMIT a lost connection changes nothing.
        const committed = commit.tag === 'COMMIT'
        this.#finish()
        if (committed) {
          this.#host.counters.committed++
          resolve()
        } else if (failure === null) {
          // PostgreSQL accepts COMMIT in a failed transaction and rolls back: only the tag shows it.
          reject(this.refusal())
        } else reject(failure.lost ? unknownOutcome(failure.error) : commitError(failure.error))
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
    const isHealthy = this.#progress.state === 'active' && this.isIdle
    this.#progress.to('settling')
    this.#host.counters.rolledBack++
    if (reason !== undefined && !this.isIdle) this.stop(reason())
    if (this.#stopped !== null) await this.#stopped
    if (this.#pipeline.lease !== null) {
      const { connection } = this.#pipeline.lease
      const timer = setTimeout(() => connection.destroy(), rollbackTimeout)
      // Handed over only if the transaction is healthy: after a failure, other answers may still arrive.
      await new Promise<unknown>((resolve) => this.#sendEnd(new Statement('ROLLBACK', [], true), isHealthy, resolve))
      clearTimeout(timer)
    }
    this.#finish()
  }

  /**
   * @param mayHandOver it ends the transaction whatever its answer is, so another session may send its first batch
   * after it
   */
  #sendEnd (end: Statement, mayHandOver: boolean, done: (failure: BatchFailure | null) => void): void {
    const lease = this.#pipeline.lease!
    const { connection } = lease
    connection.commitPending = mayHandOver
    let pendingCommit: PendingCommit | null = null
    this.#pipeline.send([end], 'end', (failure) => {
      connection.commitPending = false
      if (pendingCommit !== null) this.#host.pool.commitAnswered(pendingCommit)
      done(failure)
    })
    if (mayHandOver) pendingCommit = this.#host.pool.commitSent(lease, this.#config.commitLatency)
  }

  /**
   * Cancels running statements and rejects queued ones with the reason. Afterwards the transaction can only be rolled
   * back.
   */
  stop (reason: Error): Promise<void> {
    this.#stopped ??= this.#stop(reason)
    return this.#stopped
  }

  /**
   * The signal of a call was aborted: cancels the call if it was sent; otherwise it is never sent.
   *
   * @returns whether it was sent; its answer then decides the result
   */
  cancel (signal: StatementSignal): boolean {
    if (this.#pipeline.runs(signal)) {
      if (this.#stopped === null) this.#cancelStatement(signal)
      return true
    }
    // If it is the first statement, the transaction needs no connection any more.
    if (this.#pipeline.lease === null && this.#pipeline.isFirst(signal) && this.#start.cancel()) {
      this.neverAcquired = true
      this.rejectedCall(signal.error)
    }
    return false
  }

  async #cancelStatement (signal: StatementSignal): Promise<void> {
    const pipeline = this.#pipeline
    await cancelRunning({
      get lease () { return pipeline.lease },
      get unanswered () { return pipeline.runs(signal) ? 1 : 0 },
      settled: () => pipeline.settled(),
      canceled: () => this.canceled()
    })
    if (!pipeline.runs(signal) || pipeline.lease === null) return
    // The server did not react, or cannot be reached.
    this.#fail(transactionAborted(signal.error))
    pipeline.lease.connection.destroy()
  }

  async #stop (reason: Error): Promise<void> {
    this.#stopReason = reason
    this.#fail(reason)
    this.#refuse(this.#pipeline.takeQueued())
    if (this.#pipeline.lease === null) this.#start.cancel()
    else await cancelRunning(this.#pipeline)
    if (this.#pipeline.unanswered > 0) this.#pipeline.release()
    this.#pipeline.changed()
  }

  canceled (): void {
    this.#host.counters.canceled++
  }

  /**
   * Sends ROLLBACK TO SAVEPOINT, which makes a failed transaction active again. Resolves when it is answered, even by
   * an error.
   */
  rollbackTo (savepoint: string): Promise<void> {
    const statements = [
      new Statement(`ROLLBACK TO SAVEPOINT ${savepoint}`),
      new Statement(`RELEASE SAVEPOINT ${savepoint}`)
    ]
    return new Promise((resolve) => this.#pipeline.send(statements, 'statement', (failure) => {
      // Decided synchronously with the answer: a microtask later the connection may be lost.
      if (failure === null) {
        this.#recovered()
        // A cursor may have queued FETCH meanwhile, which does not wait for its turn.
        if (this.#progress.state === 'active') this.#pipeline.flush()
      } else {
        // Replaces the error inside the savepoint, which its caller handles, by the error of ROLLBACK TO.
        this.failure = null
        if (failure.lost) this.#lost(failure.error)
        else this.#fail(failure.error)
      }
      resolve()
    }))
  }

  begin (lease: Lease, internal: readonly Statement[]): void {
    this.since ??= performance.now()
    this.#pipeline.begin(lease, internal)
  }

  refused (error: Error): void {
    this.#fail(error)
    this.#failQueued(error)
    this.owner.lost()
  }

  #failQueued (error: Error): void {
    for (const statement of this.#pipeline.takeQueued()) statement.fail(error)
    this.#pipeline.changed()
  }

  /** Fails before it acquires a connection, for example because the user's settings(request) threw. */
  refuseAll (error: Error, statements: Statement[]): void {
    this.neverAcquired = true
    this.#progress.to('opening')
    this.#fail(error)
    for (const statement of statements) statement.fail(error)
  }

  connectionLost (error: unknown): void {
    this.#lost(error)
  }

  /**
   * A call was rejected before it was sent, or its result is unusable: the transaction fails although the server's is
   * healthy.
   */
  rejectedCall (error: unknown): void {
    this.#fail(transactionAborted(error))
    this.#refuse(this.#pipeline.takeQueued())
    this.#pipeline.changed()
  }

  batchAnswered (statements: readonly Statement[], failure: BatchFailure | null): void {
    if (failure === null) {
      for (const statement of statements) statement.succeed()
      // CLOSE may be answered after COMMIT was sent and the connection was handed to another session.
      const { lease } = this.#pipeline
      const isIdle = lease?.isReturned === false && lease.connection.clean
      if (isIdle || statements.some((statement) => statement.endsTransaction)) return this.#endedByStatement()
      if (this.#progress.state === 'opening') {
        this.#progress.to('active')
        this.#host.pool.recordRoundTrip(performance.now() - this.since!)
      }
      const unusable = statements.find((statement) => statement.resultError !== null)
      if (unusable !== undefined) this.rejectedCall(unusable.resultError)
      else if (this.#progress.state === 'active') this.#pipeline.flush()
    } else if (failure.lost) {
      if (this.#progress.state === 'opening' && this.#resend(statements, failure)) return
      this.#lost(failure.error)
      this.#refuse(statements)
    } else if (failure.unprepared && this.#progress.state === 'opening' && this.#start.useUnprepared()) {
      this.#sendUnprepared(statements)
    } else this.#failed(statements, failure)
  }

  /** Sends the first batch again on a new connection. @returns false if that is not possible */
  #resend (statements: readonly Statement[], failure: BatchFailure): boolean {
    if (!this.#start.canResend(this.#pipeline.lease!, failure) || signalError(statements) !== null) return false
    this.#host.counters.resent++
    this.#pipeline.release(true)
    this.#pipeline.putBack(statements.filter((statement) => !this.#start.isInternal(statement)))
    this.#start.resend()
    return true
  }

  /** Sends the failed first batch again, unprepared, after a ROLLBACK. */
  #sendUnprepared (statements: readonly Statement[]): void {
    for (const statement of statements) {
      statement.restart()
      statement.unprepared = true
    }
    this.#pipeline.send([new Statement('ROLLBACK', [], true)], 'statement', () => {})
    this.#pipeline.write(statements)
  }

  #failed (statements: readonly Statement[], failure: BatchFailure): void {
    const { error: answer, statement: index, unsent, unprepared } = failure
    const canceled = failureKind(answer) === 'canceled' ? signalError(statements) : null
    const error = canceled ?? answer
    const isOpening = this.#progress.state === 'opening'
    // The statement may succeed unprepared, and it will be prepared again for the next request.
    if (unprepared && !isOpening && !isOfValue(error)) maySucceedLater(error)
    const failed = statements[index]
    const isBegun = !isOpening || failed === undefined || !this.#start.isInternal(failed)
    // Statements that were sent to an already failed transaction are rejected with its first failure.
    const isFirstFailure = this.failure === null || failureKind(error) !== 'aborted-transaction'
    if (isFirstFailure) this.#fail(canceled === null ? error : transactionAborted(canceled))
    for (const [i, statement] of statements.entries()) {
      if (i < index && !unsent) statement.succeed()
      else if (isFirstFailure && (i === index || !isBegun)) {
        statement.fail(this.#stopReason ?? canceled ?? withStatus(error))
      } else this.#refuse([statement])
    }
    this.#refuse(this.#pipeline.takeQueued())
  }

  #fail (error: unknown): void {
    this.failure ??= error as Error
    const { state } = this.#progress
    if (state === 'opening' || state === 'active') this.#progress.to('failed')
  }

  #lost (error: unknown): void {
    this.#fail(connectionLost(error))
    this.#pipeline.release(true)
    this.#refuse(this.#pipeline.takeQueued())
    this.#pipeline.changed()
    this.owner.lost()
  }

  /** A statement ended the transaction, for example a COMMIT in a text of several statements. */
  #endedByStatement (): void {
    this.#fail(pgScopeError('FST_PG_SCOPE_TRANSACTION_CONTROL', 'A statement ended the transaction. ' +
      'The work before it may have been saved. Use commit() and rollback() instead.'))
    this.#refuse(this.#pipeline.takeQueued())
  }

  #recovered (): void {
    if (this.#progress.state !== 'failed' || this.isLost) return
    this.failure = null
    this.#progress.to('active')
  }

  #refuse (statements: readonly Statement[]): void {
    if (statements.length === 0) return
    const error = this.#stopReason ?? this.refusal()
    for (const statement of statements) statement.fail(statement.rejection ?? error)
  }

  #finish (): void {
    this.isEnded = true
    this.#pipeline.release()
  }
}
