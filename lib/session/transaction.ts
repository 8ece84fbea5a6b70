import { isPgScopeError, pgScopeError } from '../errors.ts'
import { isPromiseLike } from '../kind-of.ts'
import type { Offer } from '../pool/hand-over.ts'
import { currentWork, type Holder } from '../pool/holder.ts'
import type { Lease } from '../pool/lease.ts'
import type { newCounters, Strategy, Waiter } from '../pool/strategy.ts'
import type { Place } from '../pool/wait-queue.ts'
import { failureKind, isOfValue } from '../postgres/sqlstate.ts'
import { cancelRunning } from './cancellation.ts'
import type { BatchFailure } from './batch.ts'
import { commitError, connectionLost, maySucceedLater, transactionAborted, unknownOutcome, withStatus } from './commit-error.ts'
import { FirstBatch } from './first-batch.ts'
import { altersMeaning, type Beginning, type Settings } from './settings.ts'
import { Outbox, type Sender } from './outbox.ts'
import type { Progress } from './states.ts'
import { Statement } from './statement.ts'
import type { StatementSignal } from './statement-signal.ts'

/** What a transaction needs of the engine. */
export interface TransactionHost {
  readonly pool: Strategy
  readonly counters: ReturnType<typeof newCounters>
}

/** Whose transaction it is. */
export interface TransactionOwner extends Holder {
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
export class Transaction implements Waiter, Sender {
  /** Why it cannot be committed any more, or null. */
  failure: Error | null = null
  /** It holds no connection and takes no statement any more. */
  over = false
  /** It failed before it asked for a connection. */
  unasked = false
  /** performance.now() when it got its connection, or null. */
  since: number | null = null
  fresh = false
  readonly alone = false
  readonly holder: TransactionOwner
  readonly within = currentWork()
  readonly label: string | undefined
  queued: Place | null = null
  readonly #host: TransactionHost
  readonly #progress: Progress
  readonly #beginning: Beginning
  readonly #first: FirstBatch
  readonly #outbox: Outbox
  /** Set while it is being given up: what its statements are told. */
  #reason: Error | null = null
  /** What runs is being cancelled. */
  #stopped: Promise<void> | null = null
  /** Texts do not mean what they meant on this connection before. */
  #altered = false
  /** Settings that depend on the request, while they are being worked out. */
  #awaited: Promise<Settings> | null = null

  constructor (host: TransactionHost, progress: Progress, beginning: Beginning, settings: Settings | Promise<Settings> | undefined, holder: TransactionOwner, label?: string) {
    this.holder = holder
    this.label = label
    this.#host = host
    this.#progress = progress
    this.#beginning = beginning
    this.#first = new FirstBatch(beginning)
    this.#outbox = new Outbox(this, beginning.silence)
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
    this.#outbox.put(statements)
    if (state === 'active') this.#outbox.flush()
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
      for (const statement of this.#outbox.takeBack()) statement.fail(error)
      this.#outbox.changed()
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
    if (!altersMeaning(this.#beginning, settings)) return
    this.#altered = true
    for (const statement of this.#outbox.waiting) statement.automatic = false
  }

  /** Nothing is waiting or under way. */
  get quiet (): boolean {
    return this.#outbox.quiet
  }

  /** Nobody waits for an answer: what is under way is ours, a CLOSE, and COMMIT can go behind it. */
  get answered (): boolean {
    return this.#outbox.answered
  }

  /** It has no connection: not any more, or because none could be had. */
  get lost (): boolean {
    return this.#outbox.lease === null && !this.unasked
  }

  /** Resolves when every statement that was called is answered. */
  settled (): Promise<void> {
    return this.#outbox.settled()
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
    const healthy = this.#progress.state === 'active' && this.quiet
    this.#progress.to('settling')
    this.#host.counters.rolledBack++
    if (reason !== undefined && !this.quiet) this.stop(reason())
    if (this.#stopped !== null) await this.#stopped
    if (this.#outbox.lease !== null) {
      const { connection } = this.#outbox.lease
      const timer = setTimeout(() => connection.destroy(), rollbackPatience)
      // Not behind a failure, of which more may be on its way than its answer.
      await new Promise<unknown>((resolve) => this.#sendEnd(new Statement('ROLLBACK', [], true), healthy, resolve))
      clearTimeout(timer)
    }
    this.#finish()
  }

  /** @param safe it ends the transaction, whatever its answer is: somebody else may write behind it */
  #sendEnd (end: Statement, safe: boolean, done: (failure: BatchFailure | null) => void): void {
    const lease = this.#outbox.lease!
    const { connection } = lease
    connection.ending = safe
    let offer: Offer | null = null
    this.#outbox.send([end], 'end', (failure) => {
      connection.ending = false
      if (offer !== null) this.#host.pool.answered(offer)
      done(failure)
    })
    if (safe) offer = this.#host.pool.offer(lease, this.#beginning.pace)
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
    if (this.#outbox.runs(signal)) {
      if (this.#stopped === null) this.#cancelStatement(signal)
      return true
    }
    // Without it nothing would have asked for a connection.
    if (this.#outbox.lease === null && this.#outbox.isFirst(signal) && this.#leaveQueue()) {
      this.unasked = true
      this.cameToInvalid(signal.error)
    }
    return false
  }

  async #cancelStatement (signal: StatementSignal): Promise<void> {
    const outbox = this.#outbox
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
    return this.#stopAwaiting() || this.#first.end() || this.#host.pool.giveUp(this)
  }

  async #stop (reason: Error): Promise<void> {
    this.#reason = reason
    this.#fail(reason)
    this.#refuse(this.#outbox.takeBack())
    if (this.#outbox.lease === null) this.#leaveQueue()
    else await cancelRunning(this.#outbox)
    if (this.#outbox.unanswered > 0) this.#outbox.release()
    this.#outbox.changed()
  }

  canceled (): void {
    this.#host.counters.canceled++
  }

  /** Sends ROLLBACK TO SAVEPOINT, behind which it is as it was before the savepoint. Resolves when it is answered, also where that failed. */
  rollbackTo (savepoint: string): Promise<void> {
    const statements = [new Statement(`ROLLBACK TO SAVEPOINT ${savepoint}`), new Statement(`RELEASE SAVEPOINT ${savepoint}`)]
    return new Promise((resolve) => this.#outbox.send(statements, 'statement', (failure) => {
      // Decided as the answer comes: a promise later the connection may be gone.
      if (failure === null) {
        this.#recovered()
        // A cursor does not wait for its turn.
        if (this.#progress.state === 'active') this.#outbox.flush()
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
    this.#outbox.begin(lease, this.#first.ahead(lease.connection))
  }

  refused (error: Error): void {
    this.#fail(error)
    for (const statement of this.#outbox.takeBack()) statement.fail(error)
    this.#outbox.changed()
    this.holder.lost()
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
    this.#refuse(this.#outbox.takeBack())
    this.#outbox.changed()
  }

  batchAnswered (statements: readonly Statement[], failure: BatchFailure | null): void {
    if (failure === null) {
      for (const statement of statements) statement.succeed()
      // A CLOSE may be answered when COMMIT is written already, and the connection somebody else's.
      const clean = this.#outbox.lease?.over === false && this.#outbox.lease.connection.clean
      if (clean || statements.some((statement) => statement.meddled)) return this.#ended()
      if (this.#progress.state === 'opening') {
        this.#progress.to('active')
        this.#host.pool.took(performance.now() - this.since!)
      }
      const spoiled = statements.find((statement) => statement.spoiled !== null)
      if (spoiled !== undefined) this.cameToInvalid(spoiled.spoiled)
      else if (this.#progress.state === 'active') this.#outbox.flush()
    } else if (failure.lost) {
      if (this.#progress.state === 'opening' && this.#again(statements, failure)) return
      this.#lost(failure.error)
      this.#refuse(statements)
    } else if (failure.unprepared && this.#progress.state === 'opening' && this.#first.sendUnprepared()) this.#sendUnprepared(statements)
    else this.#failed(statements, failure)
  }

  /** On a new connection. */
  #again (statements: readonly Statement[], failure: BatchFailure): boolean {
    if (!this.#first.repeatable(this.#outbox.lease!, this.fresh, failure) || stopped(statements) !== null) return false
    this.#host.counters.resent++
    this.#outbox.release(true)
    this.fresh = true
    this.#outbox.putBack(statements.filter((statement) => !this.#first.made(statement)))
    this.#first.again(() => this.#host.pool.acquire(this))
    return true
  }

  /** Nothing but the first batch was lost with the failure: it is sent once more, unprepared, behind a ROLLBACK. */
  #sendUnprepared (statements: readonly Statement[]): void {
    for (const statement of statements) {
      statement.restart()
      statement.unprepared = true
    }
    this.#outbox.send([new Statement('ROLLBACK', [], true)], 'statement', () => {})
    this.#outbox.write(statements)
  }

  #failed (statements: readonly Statement[], { error: answer, statement: index, unsent, unprepared }: BatchFailure): void {
    const canceled = failureKind(answer) === 'canceled' ? stopped(statements) : null
    const error = canceled ?? answer
    // Unprepared it might have succeeded, and the next time it is prepared anew.
    if (unprepared && this.#progress.state !== 'opening' && !isOfValue(error)) maySucceedLater(error)
    const failed = statements[index]
    const begun = this.#progress.state !== 'opening' || failed === undefined || !this.#first.made(failed)
    // What runs into a transaction that failed already hears of the first failure.
    const first = this.failure === null || failureKind(error) !== 'aborted-transaction'
    if (first) this.#fail(canceled === null ? error : transactionAborted(canceled))
    for (const [i, statement] of statements.entries()) {
      if (i < index && !unsent) statement.succeed()
      else if (first && (i === index || !begun)) statement.fail(this.#reason ?? canceled ?? withStatus(error))
      else this.#refuse([statement])
    }
    this.#refuse(this.#outbox.takeBack())
  }

  #fail (error: unknown): void {
    this.failure ??= error as Error
    const { state } = this.#progress
    if (state === 'opening' || state === 'active') this.#progress.to('failed')
  }

  #lost (error: unknown): void {
    this.#fail(connectionLost(error))
    this.#outbox.release(true)
    this.#refuse(this.#outbox.takeBack())
    this.#outbox.changed()
    this.holder.lost()
  }

  /** The transaction ended although the session did not end it: a text of several statements held a COMMIT, say. */
  #ended (): void {
    this.#fail(pgScopeError('FST_PG_SCOPE_TRANSACTION_CONTROL', 'A statement ended the transaction behind the session\'s back. What ran before it may be saved. Use commit() and rollback() instead.'))
    this.#refuse(this.#outbox.takeBack())
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
    this.over = true
    this.#outbox.release()
  }
}
