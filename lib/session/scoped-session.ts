import { noFunction, pgScopeError } from '../errors.ts'
import { isPromiseLike } from '../kind-of.ts'
import type { RowStream, Session, StreamOptions } from '../../types/session.ts'
import { enterWorkOf } from '../pool/work-context.ts'
import { type ManagedSession, type Outcome, sessionClosedError, type SessionHost, transactionEndedError } from './managed-session.ts'
import { NestedTransactions } from './nested-transactions.ts'
import { ObservedPromise, UnawaitedFailures } from '../exchange/observed-promise.ts'
import { OutcomeHooks } from './outcome-hooks.ts'
import { type Savepoint, Savepoints } from './savepoints.ts'
import type { TransactionConfig, Settings } from '../exchange/transaction-config.ts'
import { Progress } from '../exchange/states.ts'
import { asError, transactionAborted } from '../exchange/transaction-errors.ts'
import { rejected } from './rejected.ts'
import { type Call, InvalidCall } from '../exchange/call.ts'
import { readStatement } from '../exchange/read-statement.ts'
import type { Statement } from '../exchange/statement.ts'
import type { StatementSignal } from '../exchange/statement-signal.ts'
import { CursorStream, failedStream } from './cursor-stream.ts'
import { Transaction } from '../exchange/transaction.ts'

const noop = (): void => {}

/**
 * A session whose statements share a transaction. The first statement begins it; a connection is held only until COMMIT
 * or ROLLBACK. It owns the order of calls (Savepoints), streams and hooks; the current Transaction owns the connection.
 */
export class ScopedSession implements ManagedSession {
  arraySetIndex = -1
  onForcedClose: ManagedSession['onForcedClose']
  endIsAwaited: boolean
  readonly firstFailure = null
  readonly requestOf: object | null
  readonly #host: SessionHost
  readonly #config: TransactionConfig
  /** Computes the settings of the request when a transaction begins. */
  #requestSettings: (() => Settings | Promise<Settings>) | undefined
  readonly #label: string | undefined
  readonly #state = new Progress()
  readonly #savepoints = new Savepoints()
  readonly #hooks: OutcomeHooks
  /** Allocated lazily. */
  #streams: Set<CursorStream> | null = null
  #nested: NestedTransactions | null = null
  #transaction: Transaction | null = null
  /** The reason given to setRollbackOnly(), or null. */
  #rollbackOnly: string | null = null
  /** A caller's commit() or rollback() in progress, or null. */
  #settling: Promise<unknown> | null = null
  /** The end, once it has begun. Later calls of end() get its promise. */
  #end: Promise<void> | null = null
  /** The outcome of the end. A pending commit can become a rollback until COMMIT is sent. */
  #outcome: Outcome | null = null
  /** Failures of transaction(fn) that no caller has awaited. */
  #unawaited: UnawaitedFailures | null = null
  /** A caller's commit() that failed and was not awaited so far: its work is lost, so the end must fail. */
  #failedCommit: { readonly promise: ObservedPromise<void>, readonly error: Error } | null = null
  /** A statement may have made the transaction read-write or serializable. */
  #mayHaveChangedMode = false
  /** The error of calls after the end, if one was given. */
  #reason: Error | undefined
  #controller: AbortController | null = null

  constructor (host: SessionHost, config: TransactionConfig, requestSettings?: () => Settings | Promise<Settings>, label?: string, requestOf: object | null = null) {
    this.#label = label
    this.endIsAwaited = requestOf !== null
    this.requestOf = requestOf
    this.#host = host
    this.#config = config
    this.#requestSettings = requestSettings
    this.#hooks = new OutcomeHooks(host)
  }

  get state (): Session['state'] {
    return this.#state.state
  }

  get signal (): AbortSignal {
    this.#controller ??= new AbortController()
    if (this.#end !== null) this.#controller.abort(this.#reason)
    return this.#controller.signal
  }

  get since (): number | null {
    return this.#transaction?.since ?? null
  }

  get isClosed (): boolean {
    return this.#state.state === 'closed'
  }

  get settling (): boolean {
    return this.#settling !== null || this.#isTooLate || (this.#end !== null && this.#savepoints.top === null)
  }

  get losesNothing (): boolean {
    return this.#config.losesNothing && !this.#mayHaveChangedMode
  }

  /** The end has begun. */
  get ending (): boolean {
    return this.#end !== null
  }

  get nothingAwaited (): boolean {
    return this.#savepoints.top === null && this.#settling === null && this.#transaction?.nothingAwaited !== false
  }

  get failure (): Error | null {
    const unawaited = this.#unawaited?.first ?? null
    return this.#transactionError ?? this.#failedCommit?.error ?? (unawaited === null ? null : asError(unawaited.error))
  }

  /** The error of further statements in a failed transaction, or null. */
  get #transactionError (): Error | null {
    return this.#state.state === 'failed' ? this.#transaction!.refusal() : null
  }

  get rollbackOnly (): boolean {
    return this.#rollbackOnly !== null
  }

  get streaming (): boolean {
    return this.#streams !== null && this.#streams.size > 0
  }

  get unused (): boolean {
    return this.#state.state === 'idle' && this.#savepoints.isEmpty && this.#settling === null && this.failure === null
  }

  query (text: unknown, values?: readonly unknown[], callback?: unknown): Promise<any> {
    const late = this.#callError()
    if (late !== null) return rejected(late)
    let call: Call
    try {
      call = readStatement(text, callback ?? values)
      this.#host.vet(call.text)
    } catch (error) {
      this.invalid(error)
      return rejected(error)
    }
    if (call.changesMode) this.#mayHaveChangedMode = true
    call.signal?.listen((error) => {
      if (!this.cancel(call.signal!)) call.fail(error)
    })
    this.#enqueue([call])
    return call.promise
  }

  cancel (signal: StatementSignal): boolean {
    return this.#transaction !== null && this.#transaction.cancel(signal)
  }

  invalid (error: unknown): void {
    if (this.#open) this.#enqueue([new InvalidCall(error)])
  }

  stream<R = any> (text: any, values?: any, options?: StreamOptions): RowStream<R> {
    const late = this.#callError()
    if (late !== null) return failedStream(late) as RowStream<R>
    this.#streams ??= new Set()
    return new CursorStream(this, this.#streams, text, values, options) as RowStream<R>
  }

  vet (text: string): void {
    this.#host.vet(text)
  }

  open (declare: (savepoint: Savepoint | null) => Statement[]): void {
    this.#inTurn(() => {
      const statements = declare(this.#savepoints.top)
      if (statements.length > 0) this.#submit(statements)
    }, (error) => {
      for (const statement of declare(null)) statement.fail(error)
    })
  }

  /** Sent out of turn: FETCH and CLOSE belong to an open cursor. */
  fetch (statements: Statement[]): void {
    if (this.#open && this.#transaction?.isEnded === false) this.#submit(statements)
    else this.#refuse(statements)
  }

  async recovery (): Promise<boolean> {
    if (this.#transactionError !== null && !await this.#savepoints.othersEnded()) return false
    return this.#open && this.#transactionError === null && this.#transaction?.isEnded === false
  }

  transaction<T> (fn: (session: Session) => Promise<T> | T): Promise<T> {
    const late = this.#callError()
    if (late !== null) return rejected(late)
    if (typeof fn !== 'function') return this.#rejected(noFunction('transaction', fn))
    // Most sessions have none.
    this.#nested ??= new NestedTransactions({
      session: this,
      savepoints: this.#savepoints,
      hooks: this.#hooks,
      unawaited: this.#unawaited ??= new UnawaitedFailures(),
      streams: () => this.#streams ?? [],
      transaction: () => this.#transaction,
      failure: () => this.#transactionError,
      isTooLate: () => this.#isTooLate,
      reportsFailures: () => this.endIsAwaited || this.#end !== null,
      closedError: () => this.#closedError(),
      discardUnsent: () => {
        this.#state.to('settling')
        this.#leaveTransaction('idle')
      }
    })
    return this.#nested.run(fn)
  }

  commit (): Promise<void> {
    return this.#settleForCaller('commit', async () => {
      if (this.#rollbackOnly !== null) throw pgScopeError('FST_PG_SCOPE_TRANSACTION_ABORTED', `commit() was called after setRollbackOnly()${this.#rollbackOnly && ` (${this.#rollbackOnly})`}.`)
      await this.#commit('idle')
    })
  }

  rollback (): Promise<void> {
    return this.#settleForCaller('rollback', () => this.#rollback('idle'))
  }

  settle (outcome: Outcome): Promise<void> {
    return this.#savepoints.outside(() => outcome === 'commit' ? this.commit() : this.rollback())
  }

  setRollbackOnly (reason = ''): void {
    this.#rollbackOnly ??= reason
  }

  afterCommit (fn: () => unknown): void {
    this.#register('afterCommit', fn)
  }

  afterRollback (fn: () => unknown): void {
    this.#register('afterRollback', fn)
  }

  end (outcome: Outcome, reason?: Error): Promise<void> {
    if (this.#end !== null) {
      if (outcome === 'rollback' && this.#canBecomeRollback) this.#turnIntoRollback(reason)
      // A later end('commit') must not succeed if the work was rolled back.
      return outcome === 'commit' && this.#outcome === 'rollback' && !this.rollbackOnly ? this.#end.then(() => { throw this.#closedError() }) : this.#end
    }
    this.#reason = reason
    this.#outcome = this.rollbackOnly ? 'rollback' : outcome
    if (this.#outcome === 'commit' && this.#canCommitAtOnce && this.failure === null) this.#end = this.#commitAtOnce()
    else {
      this.#end = this.#finish(this.#outcome)
      // Not every caller awaits the end.
      this.#end.catch(noop)
    }
    return this.#end
  }

  /** No savepoint or stream is open, and no caller waits for an answer. */
  get #canCommitAtOnce (): boolean {
    return this.#state.state === 'active' && this.#savepoints.isEmpty && this.#settling === null && !this.streaming && this.#transaction!.nothingAwaited
  }

  /** The fast path of #finish(), with as few promises as possible: the end of nearly every session. */
  #commitAtOnce (): Promise<void> {
    return this.#transaction!.commit().then(() => {
      this.#leaveTransaction('closed')
      this.#hooks.committed()
      this.#ended()
    }, (error) => {
      this.#leaveTransaction('closed')
      this.#hooks.rolledBack()
      this.#ended()
      throw error
    })
  }

  #ended (): void {
    this.#savepoints.startAll()
    this.#controller?.abort(this.#reason)
    // Releases the request, which the function refers to.
    this.#requestSettings = undefined
    this.#host.ended(this)
  }

  /** The session is to be committed, and COMMIT is not sent yet. */
  get #canBecomeRollback (): boolean {
    return this.#outcome === 'commit' && this.#state.state !== 'settling' && this.#state.state !== 'closed'
  }

  #turnIntoRollback (reason?: Error): void {
    this.#outcome = 'rollback'
    this.#reason = reason
    this.#savepoints.startAll()
    if (this.#transaction?.isEnded === false) this.#transaction.stop(this.#closedError()).catch(noop)
  }

  close (): Promise<void> {
    return this.end('rollback')
  }

  [Symbol.asyncDispose] (): Promise<void> {
    return this.close()
  }

  /** Whether calls are accepted: after the end has begun, only inside a transaction(fn) that the end waits for. */
  get #open (): boolean {
    return this.#end === null || (this.#outcome === 'commit' && this.#savepoints.isCallerInside)
  }

  /**
   * Why a call is rejected, or null. A call after an awaited commit() that failed shows that the caller has handled it.
   */
  #callError (): Error | null {
    if (!this.#open) return this.#closedError()
    if (this.#nested !== null && this.#savepoints.isCallerRolledBack) return transactionEndedError()
    if (this.#failedCommit?.promise.observed === true) this.#failedCommit = null
    return null
  }

  /** Rejects a call before it is sent; the session fails when the turn of the call comes. */
  #rejected (error: Error): Promise<never> {
    this.invalid(error)
    return rejected(error)
  }

  #enqueue (statements: Statement[]): void {
    if (this.#savepoints.isEmpty) this.#submit(statements)
    else {
      this.#inTurn(() => this.#submit(statements), (error) => {
        for (const statement of statements) statement.fail(error)
      })
    }
  }

  /** Waits for a running transaction(fn), unless the connection is lost, because fn may await the call. */
  #inTurn (go: () => void, refuse: (error: Error) => void): void {
    const lost = this.#state.state === 'failed' && this.#transaction!.isLost
    if (lost && !this.#savepoints.settles) go()
    else this.#savepoints.inTurn(go, refuse)
  }

  lost (): void {
    if (this.#transactionError !== null) this.#savepoints.rejectWaiting(this.#transactionError)
  }

  /** The session rolls back or is closed: a call whose turn comes now is rejected. */
  get #isTooLate (): boolean {
    return this.#outcome === 'rollback' || this.#state.state === 'closed'
  }

  #submit (statements: Statement[]): void {
    if (this.#isTooLate) return this.#refuse(statements)
    if (this.#transaction === null || this.#transaction.isEnded) {
      let settings: Settings | Promise<Settings> | undefined
      const { rejection } = statements[0]!
      let failure = rejection === null ? null : transactionAborted(rejection) as Error
      try {
        if (failure === null) settings = this.#requestSettings?.()
      } catch (error) { // the user's settings(request) or role(request)
        failure = error as Error
      }
      // The user's function used this session itself, which began a transaction that failed.
      if (this.#transaction?.isEnded === false) return this.#submitToFailed(this.#transaction, statements, settings)
      this.#transaction = new Transaction(this.#host, this.#state, this.#config, settings, this, this.#label)
      if (failure !== null) {
        this.#savepoints.controlStatements(this.#transaction)
        return this.#transaction.refuseAll(failure, statements)
      }
      // What a handler does from here on happens inside of its session; whoever opens one by hand may have several side
      // by side.
      if (this.requestOf !== null) enterWorkOf(this)
    }
    this.#transaction.submit(this.#savepoints.isEmpty ? statements : [...this.#savepoints.controlStatements(this.#transaction), ...statements])
  }

  /** @param settings no longer used: a rejection must not be unhandled */
  #submitToFailed (failed: Transaction, statements: Statement[], settings: unknown): void {
    if (isPromiseLike(settings)) settings.then(undefined, noop)
    failed.submit(statements)
  }

  #refuse (statements: Statement[]): void {
    for (const statement of statements) statement.fail(this.#closedError())
  }

  /** A caller's commit() or rollback(). Calls after it wait, and belong to the next transaction. */
  #settleForCaller (name: string, settle: () => Promise<void>): Promise<void> {
    const late = this.#callError()
    if (late !== null) return rejected(late)
    if (this.#savepoints.isCallerInside) return this.#rejected(pgScopeError('FST_PG_SCOPE_SESSION_STATE', `${name}() was called inside transaction(fn), whose savepoint would be lost. Let fn resolve or throw instead.`))
    const promise: ObservedPromise<void> = new ObservedPromise((resolve, reject) => this.#savepoints.toSettle(() => {
      if (this.#isTooLate) return reject(this.#closedError())
      const turn = this.#savepoints.hold()
      const settled = settle()
      this.#settling = settled.catch(noop).then(() => {
        this.#settling = null
        this.#savepoints.leave(turn)
      })
      settled.then(resolve, (error) => {
        if (this.#state.state === 'idle' && this.#rollbackOnly === null) this.#failedCommit = { promise, error }
        reject(error)
      })
    }))
    // The end reports the failure.
    if (this.endIsAwaited) promise.silence()
    return promise
  }

  async #commit (next: 'idle' | 'closed'): Promise<void> {
    const transaction = this.#transaction
    this.#closeStreams()
    if (transaction?.nothingAwaited === false) await transaction.settled()
    const unawaited = this.#unawaited?.first ?? null
    if (unawaited !== null && this.#transactionError === null) {
      if (next === 'closed') await this.#rollback(next, () => this.#closedError())
      throw unawaited.error
    }
    if (transaction === null || transaction.isEnded) {
      if (this.#state.state !== next) this.#state.to(next)
      return this.#hooks.committed()
    }
    const failure = this.#transactionError
    if (failure !== null) {
      if (next === 'closed') await this.#rollback(next, () => this.#closedError())
      throw failure
    }
    try {
      await transaction.commit()
    } catch (error) {
      this.#leaveTransaction(next)
      this.#hooks.rolledBack()
      throw error
    }
    this.#leaveTransaction(next)
    this.#hooks.committed()
  }

  async #rollback (next: 'idle' | 'closed', reason?: () => Error): Promise<void> {
    const transaction = this.#transaction
    this.#closeStreams()
    if (transaction?.awaitsSettings && reason === undefined) await transaction.stop(pgScopeError('FST_PG_SCOPE_CANCELED', 'rollback() was called while the transaction waited for `settings(request)` or `role(request)`: the statement was not sent.'))
    if (transaction !== null && reason === undefined) await transaction.settled()
    if (transaction === null || transaction.isEnded) {
      if (this.#state.state !== next) this.#state.to(next)
    } else {
      await transaction.rollback(reason)
      this.#leaveTransaction(next)
    }
    this.#unawaited?.clear()
    this.#failedCommit = null
    this.#hooks.rolledBack()
  }

  #leaveTransaction (next: 'idle' | 'closed'): void {
    this.#transaction = null
    this.#state.to(next)
  }

  async #finish (outcome: Outcome): Promise<void> {
    try {
      if (outcome === 'commit') {
        if (!this.#savepoints.isEmpty) await this.#savepoints.whenInnermost(null)
        const uncommitted = this.#failedCommit
        if (uncommitted !== null || this.#isTooLate) {
          await this.#rollback('closed', () => this.#closedError())
          throw uncommitted?.error ?? this.#closedError()
        }
        await this.#commit('closed')
      } else {
        if (this.#settling !== null) {
          // It may be waiting for a running statement.
          if (this.#state.state !== 'settling') await this.#transaction?.stop(this.#closedError())
          await this.#settling
        }
        await this.#rollback('closed', () => this.#closedError())
      }
    } finally {
      this.#ended()
    }
  }

  #closeStreams (): void {
    for (const stream of this.#streams ?? []) stream.cursorClosed(this.#closedError())
  }

  #register (name: 'afterCommit' | 'afterRollback', fn: () => unknown): void {
    const late = this.#end === null ? this.#callError() : this.#closedError()
    if (late !== null) throw late
    if (typeof fn !== 'function') {
      const error = noFunction(name, fn)
      this.invalid(error)
      throw error
    }
    this.#hooks[name](fn, this.#savepoints.callersSavepoint())
  }

  #closedError (): Error {
    return this.#reason ?? sessionClosedError()
  }
}
