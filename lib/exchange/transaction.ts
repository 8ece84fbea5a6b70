import { isPgScopeError, pgScopeError } from '../errors.ts'
import { isPromiseLike } from '../kind-of.ts'
import type { PendingCommit } from '../pool/hand-over.ts'
import { currentWork, type ConnectionOwner } from '../pool/work-context.ts'
import type { Lease } from '../pool/lease.ts'
import type { Counters } from '../pool/counters.ts'
import type { Pool } from '../pool/pool.ts'
import type { AcquireRequest, QueueEntry } from '../pool/wait-queue.ts'
import { failureKind, isOfValue } from '../postgres/sqlstate.ts'
import { cancelRunning } from './cancellation.ts'
import type { BatchFailure } from './batch.ts'
import { commitError, connectionLost, maySucceedLater, transactionAborted, unknownOutcome, withStatus } from './transaction-errors.ts'
import { FirstBatch } from './first-batch.ts'
import { altersMeaning, type TransactionConfig, type Settings } from './transaction-config.ts'
import { Pipeline, type PipelineOwner } from './pipeline.ts'
import type { Progress } from './states.ts'
import { Statement } from './statement.ts'
import type { StatementSignal } from './statement-signal.ts'

/** What a transaction needs of the engine. */
export interface TransactionHost {
  readonly pool: Pool
  readonly counters: Counters
}

/** Whose transaction it is. */
export interface TransactionOwner extends ConnectionOwner {
  /** The connection is lost, or could not be had: nothing but a rollback leads on. */
  lost (): void
}

/** How long ROLLBACK may take to be answered. Milliseconds. */
const rollbackPatience = 5000

/** What the caller of a batch's last statement is told if its signal was aborted; null otherwise. No other has a signal of its own. */
function stopped (statements: readonly Statement[]): unknown {
  return statements.at(-1)!.invalid
}

/** One transaction on one connection, from BEGIN to COMMIT or ROLLBACK. */
export class Transaction implements AcquireRequest, PipelineOwner {
  /** Why it cannot be committed any more, or null. */
  failure: Error | null = null
  /** It holds no connection and takes no statement any more. */
  isEnded = false
  /** It failed before it asked for a connection. */
  unasked = false
  /** performance.now() when it got its connection, or null. */
  since: number | null = null
  requireNew = false
  readonly exclusive = false
  readonly owner: TransactionOwner
  readonly context = currentWork()
  readonly label: string | undefined
  entry: QueueEntry | null = null
  readonly #host: TransactionHost
  readonly #progress: Progress
  readonly #config: TransactionConfig
  readonly #first: FirstBatch
  readonly #pipeline: Pipeline
  /** Set while it is being given up: what its statements are told. */
  #reason: Error | null = null
  /** What runs is being cancelled. */
  #stopped: Promise<void> | null = null
  /** Texts do not mean what they meant on this connection before. */
  #altered = false
  /** Settings that depend on the request, while they are being worked out. */
  #awaited: Promise<Settings> | null = null

  constructor (host: TransactionHost, progress: Progress, config: TransactionConfig, settings: Settings | Promise<Settings> | undefined, holder: TransactionOwner, label?: string) {
    this.owner = holder
    this.label = label
    this.#host = host
    this.#progress = progress
    this.#config = config
    this.#first = new FirstBatch(config)
    this.#pipeline = new Pipeline(this, config.answerTimeout)
    if (isPromiseLike(settings)) this.#awaited = settings
    else this.#use(settings)
  }

  /** Sends statements in the order of the calls, without waiting for each other where that is safe. */
  submit (statements: Statement[]): void {
    const { state } = this.#progress
    if (state === 'failed') return this.#refuse(statements)
    for (const statement of statements) {
      this.#altered ||= statement.altersMeaning
      if (this.#altered) statement.automatic = false
    }
    // Behind a BEGIN that fails they would run outside of a transaction, so they wait until it is answered.
    this.#pipeline.put(statements)
    if (state === 'active') this.#pipeline.flush()
    else if (state === 'idle') {
      this.#progress.to('opening')
      if (this.#awaited === null) this.#host.pool.acquire(this)
      else this.#awaitSettings(this.#awaited)
    }
  }

  /** Settings that depend on the request are being worked out: until they are known it asks for no connection. */
  get awaitsSettings (): boolean {
    return this.#awaited !== null
  }

  #awaitSettings (awaited: Promise<Settings>): void {
    awaited.then((settings) => {
      if (!this.#stopAwaiting()) return
      this.#use(settings)
      this.#host.pool.acquire(this)
    }, (error) => {
      if (!this.#stopAwaiting()) return
      this.unasked = true
      this.#fail(error)
      for (const statement of this.#pipeline.takeBack()) statement.fail(error)
      this.#pipeline.changed()
    })
  }

  /** False where it had stopped already. */
  #stopAwaiting (): boolean {
    const awaited = this.#awaited !== null
    this.#awaited = null
    return awaited
  }

  #use (settings: Settings | undefined): void {
    this.#first.settings = settings
    if (!altersMeaning(this.#config, settings)) return
    this.#altered = true
    for (const statement of this.#pipeline.waiting) statement.automatic = false
  }

  /** Nothing is waiting or under way. */
  get isIdle (): boolean {
    return this.#pipeline.isIdle
  }

  /** Nobody waits for an answer: what is under way is ours, a CLOSE, and COMMIT can go behind it. */
  get nothingAwaited (): boolean {
    return this.#pipeline.nothingAwaited
  }

  /** It has no connection: not any more, or because none could be had. */
  get lost (): boolean {
    return this.#pipeline.lease === null && !this.unasked
  }

  /** Resolves when every statement that was called is answered. */
  settled (): Promise<void> {
    return this.#pipeline.settled()
  }

  /** What a statement, or COMMIT, is told once the transaction has failed. */
  refusal (): Error {
    return isPgScopeError(this.failure) ? this.failure : transactionAborted(this.failure)
  }

  /** COMMIT, and what its answer means. Nothing may be waiting, and nobody for an answer. */
  commit (): Promise<void> {
    this.#progress.to('settling')
    const commit = new Statement('COMMIT', [], true)
    return new Promise((resolve, reject) => {
      this.#sendEnd(commit, true, (failure) => {
        // A connection that dies behind the tag COMMIT takes nothing back.
        const committed = commit.tag === 'COMMIT'
        this.#finish()
        if (committed) {
          this.#host.counters.committed++
          resolve()
        } else if (failure === null) {
          // PostgreSQL takes COMMIT of a failed transaction without an error and rolls back: only the tag tells.
          reject(this.refusal())
        } else reject(failure.lost ? unknownOutcome(failure.error) : commitError(failure.error))
      })
    })
  }

  /**
   * Gives the work up, and the connection back, whatever state it is in. Never rejects.
   *
   * @param reason what statements under way are told; they are cancelled on the server. Without one there must be none.
   */
  async rollback (reason?: () => Error): Promise<void> {
    const healthy = this.#progress.state === 'active' && this.isIdle
    this.#progress.to('settling')
    this.#host.counters.rolledBack++
    if (reason !== undefined && !this.isIdle) this.stop(reason())
    if (this.#stopped !== null) await this.#stopped
    if (this.#pipeline.lease !== null) {
      const { connection } = this.#pipeline.lease
      const timer = setTimeout(() => connection.destroy(), rollbackPatience)
      // Not behind a failure, of which more may be on its way than its answer.
      await new Promise<unknown>((resolve) => this.#sendEnd(new Statement('ROLLBACK', [], true), healthy, resolve))
      clearTimeout(timer)
    }
    this.#finish()
  }

  /** @param safe it ends the transaction, whatever its answer is: somebody else may write behind it */
  #sendEnd (end: Statement, safe: boolean, done: (failure: BatchFailure | null) => void): void {
    const lease = this.#pipeline.lease!
    const { connection } = lease
    connection.commitPending = safe
    let offer: PendingCommit | null = null
    this.#pipeline.send([end], 'end', (failure) => {
      connection.commitPending = false
      if (offer !== null) this.#host.pool.commitAnswered(offer)
      done(failure)
    })
    if (safe) offer = this.#host.pool.commitSent(lease, this.#config.commitLatency)
  }

  /** Cancels what runs and refuses what waits: they are told the reason. Afterwards it can only be rolled back. */
  stop (reason: Error): Promise<void> {
    this.#stopped ??= this.#stop(reason)
    return this.#stopped
  }

  /**
   * The signal of a call was aborted.
   *
   * @returns whether it was sent: then it is cancelled, and its answer tells what has become of it. Otherwise it is never sent
   */
  cancel (signal: StatementSignal): boolean {
    if (this.#pipeline.runs(signal)) {
      if (this.#stopped === null) this.#cancelStatement(signal)
      return true
    }
    // Without it nothing would have asked for a connection.
    if (this.#pipeline.lease === null && this.#pipeline.isFirst(signal) && this.#leaveQueue()) {
      this.unasked = true
      this.cameToInvalid(signal.error)
    }
    return false
  }

  async #cancelStatement (signal: StatementSignal): Promise<void> {
    const outbox = this.#pipeline
    await cancelRunning({
      get lease () { return outbox.lease },
      get unanswered () { return outbox.runs(signal) ? 1 : 0 },
      settled: () => outbox.settled(),
      canceled: () => this.canceled()
    })
    if (!outbox.runs(signal) || outbox.lease === null) return
    // The server does not heed it, or is not reached.
    this.#fail(transactionAborted(signal.error))
    outbox.lease.connection.destroy()
  }

  /** It waits for a connection no longer, nor for what comes before that; false where it had stopped waiting already. */
  #leaveQueue (): boolean {
    return this.#stopAwaiting() || this.#first.cancelResend() || this.#host.pool.giveUp(this)
  }

  async #stop (reason: Error): Promise<void> {
    this.#reason = reason
    this.#fail(reason)
    this.#refuse(this.#pipeline.takeBack())
    if (this.#pipeline.lease === null) this.#leaveQueue()
    else await cancelRunning(this.#pipeline)
    if (this.#pipeline.unanswered > 0) this.#pipeline.release()
    this.#pipeline.changed()
  }

  canceled (): void {
    this.#host.counters.canceled++
  }

  /** Sends ROLLBACK TO SAVEPOINT, behind which it is as it was before the savepoint. Resolves when it is answered, also where that failed. */
  rollbackTo (savepoint: string): Promise<void> {
    const statements = [new Statement(`ROLLBACK TO SAVEPOINT ${savepoint}`), new Statement(`RELEASE SAVEPOINT ${savepoint}`)]
    return new Promise((resolve) => this.#pipeline.send(statements, 'statement', (failure) => {
      // Decided as the answer comes: a promise later the connection may be gone.
      if (failure === null) {
        this.#recovered()
        // A cursor does not wait for its turn.
        if (this.#progress.state === 'active') this.#pipeline.flush()
      } else {
        // What had failed inside of the savepoint is its caller's to handle; that it could not be undone is not.
        this.failure = null
        if (failure.lost) this.#lost(failure.error)
        else this.#fail(failure.error)
      }
      resolve()
    }))
  }

  granted (lease: Lease): void {
    this.since ??= performance.now()
    this.#pipeline.begin(lease, this.#first.ahead(lease.connection))
  }

  refused (error: Error): void {
    this.#fail(error)
    for (const statement of this.#pipeline.takeBack()) statement.fail(error)
    this.#pipeline.changed()
    this.owner.lost()
  }

  /** It cannot even ask for a connection: the user's settings(request) threw, say. */
  refuseAll (error: Error, statements: Statement[]): void {
    this.unasked = true
    this.#progress.to('opening')
    this.#fail(error)
    for (const statement of statements) statement.fail(error)
  }

  connectionLost (error: unknown): void {
    this.#lost(error)
  }

  /** What its caller asked for was not done, or its result is of no use: the server's transaction is healthy, and ours has failed. */
  cameToInvalid (error: unknown): void {
    this.#fail(transactionAborted(error))
    this.#refuse(this.#pipeline.takeBack())
    this.#pipeline.changed()
  }

  batchAnswered (statements: readonly Statement[], failure: BatchFailure | null): void {
    if (failure === null) {
      for (const statement of statements) statement.succeed()
      // A CLOSE may be answered when COMMIT is written already, and the connection somebody else's.
      const clean = this.#pipeline.lease?.isReturned === false && this.#pipeline.lease.connection.clean
      if (clean || statements.some((statement) => statement.endsTransaction)) return this.#ended()
      if (this.#progress.state === 'opening') {
        this.#progress.to('active')
        this.#host.pool.recordRoundTrip(performance.now() - this.since!)
      }
      const spoiled = statements.find((statement) => statement.spoiled !== null)
      if (spoiled !== undefined) this.cameToInvalid(spoiled.spoiled)
      else if (this.#progress.state === 'active') this.#pipeline.flush()
    } else if (failure.lost) {
      if (this.#progress.state === 'opening' && this.#again(statements, failure)) return
      this.#lost(failure.error)
      this.#refuse(statements)
    } else if (failure.unprepared && this.#progress.state === 'opening' && this.#first.sendUnprepared()) this.#sendUnprepared(statements)
    else this.#failed(statements, failure)
  }

  /** On a new connection. */
  #again (statements: readonly Statement[], failure: BatchFailure): boolean {
    if (!this.#first.canResend(this.#pipeline.lease!, this.requireNew, failure) || stopped(statements) !== null) return false
    this.#host.counters.resent++
    this.#pipeline.release(true)
    this.requireNew = true
    this.#pipeline.putBack(statements.filter((statement) => !this.#first.isOurs(statement)))
    this.#first.resend(() => this.#host.pool.acquire(this))
    return true
  }

  /** Nothing but the first batch was lost with the failure: it is sent once more, unprepared, behind a ROLLBACK. */
  #sendUnprepared (statements: readonly Statement[]): void {
    for (const statement of statements) {
      statement.restart()
      statement.unprepared = true
    }
    this.#pipeline.send([new Statement('ROLLBACK', [], true)], 'statement', () => {})
    this.#pipeline.write(statements)
  }

  #failed (statements: readonly Statement[], { error: answer, statement: index, unsent, unprepared }: BatchFailure): void {
    const canceled = failureKind(answer) === 'canceled' ? stopped(statements) : null
    const error = canceled ?? answer
    // Unprepared it might have succeeded, and the next time it is prepared anew.
    if (unprepared && this.#progress.state !== 'opening' && !isOfValue(error)) maySucceedLater(error)
    const failed = statements[index]
    const begun = this.#progress.state !== 'opening' || failed === undefined || !this.#first.isOurs(failed)
    // What runs into a transaction that failed already hears of the first failure.
    const first = this.failure === null || failureKind(error) !== 'aborted-transaction'
    if (first) this.#fail(canceled === null ? error : transactionAborted(canceled))
    for (const [i, statement] of statements.entries()) {
      if (i < index && !unsent) statement.succeed()
      else if (first && (i === index || !begun)) statement.fail(this.#reason ?? canceled ?? withStatus(error))
      else this.#refuse([statement])
    }
    this.#refuse(this.#pipeline.takeBack())
  }

  #fail (error: unknown): void {
    this.failure ??= error as Error
    const { state } = this.#progress
    if (state === 'opening' || state === 'active') this.#progress.to('failed')
  }

  #lost (error: unknown): void {
    this.#fail(connectionLost(error))
    this.#pipeline.release(true)
    this.#refuse(this.#pipeline.takeBack())
    this.#pipeline.changed()
    this.owner.lost()
  }

  /** The transaction ended although the session did not end it: a text of several statements held a COMMIT, say. */
  #ended (): void {
    this.#fail(pgScopeError('FST_PG_SCOPE_TRANSACTION_CONTROL', 'A statement ended the transaction behind the session\'s back. What ran before it may be saved. Use commit() and rollback() instead.'))
    this.#refuse(this.#pipeline.takeBack())
  }

  #recovered (): void {
    if (this.#progress.state !== 'failed' || this.lost) return
    this.failure = null
    this.#progress.to('active')
  }

  #refuse (statements: readonly Statement[]): void {
    if (statements.length === 0) return
    const error = this.#reason ?? this.refusal()
    for (const statement of statements) statement.fail(statement.invalid ?? error)
  }

  #finish (): void {
    this.isEnded = true
    this.#pipeline.release()
  }
}
