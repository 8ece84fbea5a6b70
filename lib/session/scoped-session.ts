import { noFunction } from '../errors.ts'
import type { RowStream, Savepoint, Session, StreamOptions } from '../../types/session.ts'
import { Statement } from '../exchange/statement.ts'
import type { Transaction } from '../exchange/transaction.ts'
import type { WireValue } from '../postgres/messages.ts'
import type { Call } from '../exchange/call.ts'
import { type ForLibraries, forLibraries } from '../library-session.ts'
import type { Settings, TransactionConfig } from '../exchange/transaction-config.ts'
import { asError } from '../exchange/transaction-errors.ts'
import { CallerSettlement, rollbackOnlyError } from './caller-settlement.ts'
import { CursorStream, failedStream } from './cursor-stream.ts'
import { type ManagedSession, type Outcome, type SessionHost, transactionEndedError } from './managed-session.ts'
import { invalidName } from './imperative-savepoint.ts'
import { rejected } from './rejected.ts'
import { type Fate, isUndone } from './savepoint.ts'
import { SavepointCalls } from './savepoint-calls.ts'
import { Savepoints } from './savepoints.ts'
import { SessionBase } from './session-base.ts'
import { SessionEnd } from './session-end.ts'
import { SessionTransactions } from './session-transactions.ts'
import { StatementOrder } from './statement-order.ts'

/**
 * A session whose statements share a transaction. It checks the calls and passes them on:
 *
 * - SessionTransactions: the current transaction, which holds the connection until COMMIT or ROLLBACK, its streams and
 *   hooks
 * - StatementOrder, Savepoints: whose turn it is
 * - SavepointCalls: transaction(fn), savepoint(), and the transactions of libraries
 * - CallerSettlement: commit() and rollback() before the end; SessionEnd: the end
 */
export class ScopedSession extends SessionBase implements ManagedSession {
  endIsAwaited: boolean
  readonly firstFailure = null
  readonly requestOf: object | null
  readonly #savepoints = new Savepoints(this.host.engineIdentity, this, this.label)
  readonly #transactions: SessionTransactions
  readonly #order: StatementOrder
  readonly #caller = new CallerSettlement(this.#savepoints)
  readonly #end: SessionEnd
  /** Allocated lazily. */
  #savepointCalls: SavepointCalls | null = null
  /** The reason given to setRollbackOnly(), or null. */
  #rollbackOnly: string | null = null

  constructor (
    host: SessionHost, config: TransactionConfig, requestSettings?: () => Settings | Promise<Settings>,
    label?: ScopedSession['label'], requestOf: object | null = null
  ) {
    super(host, label)
    this.endIsAwaited = requestOf !== null
    this.requestOf = requestOf
    this.#transactions = new SessionTransactions(host, config, this, this.#savepoints, requestSettings, label)
    this.#end = new SessionEnd(this, this.#savepoints, this.#transactions, this.#caller)
    this.#order = new StatementOrder(this, host, this.#savepoints, this.#transactions, label)
  }

  get mode (): Session['mode'] {
    return 'transaction'
  }

  get state (): Session['state'] {
    return this.#transactions.state
  }

  get isClosed (): boolean {
    return this.#transactions.isClosed
  }

  get since (): number | null {
    return this.#transactions.current?.since ?? null
  }

  get settling (): boolean {
    return this.#caller.inProgress !== null || this.#isTooLate || (this.isEnding && this.#savepoints.isFree)
  }

  get losesNothing (): boolean {
    return this.#transactions.losesNothing
  }

  override get hasCommitted (): boolean {
    return this.#transactions.hasCommitted
  }

  override addToEnd (text: string, values: WireValue[]): void {
    this.#order.add([new Statement(text, values)])
  }

  get isEnding (): boolean {
    return this.#end.hasBegun
  }

  /** A statement runs, or waits for a connection. */
  get isBusy (): boolean {
    return this.#transactions.current?.isIdle === false
  }

  get nothingAwaited (): boolean {
    return this.#savepoints.isFree && this.#caller.inProgress === null && this.#transactions.nothingAwaited
  }

  get failure (): Error | null {
    const { unawaitedFailure: unawaited, isLost, failure } = this.#transactions
    // What is open beside the caller may undo the failed work.
    const isFinal = failure !== null && (isLost || this.#savepoints.isCallersTurn)
    return (isFinal ? failure : null) ?? this.#caller.failure ?? (unawaited === null ? null : asError(unawaited.error))
  }

  get rollbackOnly (): boolean {
    return this.#rollbackOnly !== null
  }

  get streaming (): boolean {
    return this.#transactions.isStreaming
  }

  get unused (): boolean {
    const isIdle = this.state === 'idle' && this.#savepoints.isEmpty && this.#caller.inProgress === null
    return isIdle && this.failure === null && !isUndone(this.#savepoints.fateOfCaller())
  }

  get resting (): number | null {
    return this.#savepoints.isEmpty && this.#rollbackOnly === null ? this.#transactions.resting : null
  }

  query (text: unknown, values?: readonly unknown[], callback?: unknown): Promise<any> {
    const late = this.#callError()
    if (late !== null) return rejected(late)
    let call: Call
    try {
      call = this.#order.read(text, callback ?? values)
    } catch (error) {
      return this.#rejectInvalid(error)
    }
    call.signal?.listen((error) => {
      if (!this.#order.cancel(call.signal!)) call.fail(error)
    })
    this.#order.add([call])
    return call.promise
  }

  stream<R = any> (text: any, values?: any, options?: StreamOptions): RowStream<R> {
    const late = this.#callError()
    if (late !== null) return failedStream(late) as RowStream<R>
    return new CursorStream(this.#order, this.#transactions.streams, text, values, options) as RowStream<R>
  }

  transaction<T> (fn: (session: Session) => Promise<T> | T): Promise<T> {
    const late = this.#callError()
    if (late !== null) return rejected(late)
    if (typeof fn !== 'function') return this.#rejectInvalid(noFunction('transaction', fn))
    return this.savepointCalls.transaction(fn)
  }

  savepoint (name?: string): Promise<Savepoint> {
    const late = this.#callError()
    if (late !== null) return rejected(late)
    const invalid = invalidName(name)
    return invalid === null ? this.savepointCalls.savepoint(name) : this.#rejectInvalid(invalid)
  }

  #rejectInvalid (error: unknown): Promise<never> {
    this.#order.invalid(error)
    return rejected(error)
  }

  get savepointCalls (): SavepointCalls {
    this.#savepointCalls ??= new SavepointCalls({
      session: this,
      engine: this.host.pool,
      savepoints: this.#savepoints,
      callError: () => this.#callError(),
      tooLateError: () => this.tooLateError(),
      reportsFailures: () => this.endIsAwaited || this.isEnding,
      invalid: (error) => this.invalid(error)
    }, this.#transactions, this.#order)
    return this.#savepointCalls
  }

  get [forLibraries] (): ForLibraries {
    return this.savepointCalls.forLibraries
  }

  commit (): Promise<void> {
    return this.#commit(null)
  }

  #commit (fate: Fate | null): Promise<void> {
    return this.#settleForCaller('commit', async () => {
      if (this.#rollbackOnly !== null) throw rollbackOnlyError(this.#rollbackOnly)
      await this.#transactions.commit(false, fate)
    })
  }

  rollback (): Promise<void> {
    return this.#settleForCaller('rollback', () =>
      this.#transactions.rollback().then(() => this.#caller.forgetFailure()))
  }

  #settleForCaller (name: 'commit' | 'rollback', settle: () => Promise<void>): Promise<void> {
    const late = this.#callError()
    return late === null ? this.#caller.run(name, settle, this) : rejected(late)
  }

  settle (outcome: Outcome): Promise<void> {
    const fate = this.#savepoints.fateOfCaller()
    return this.#savepoints.outside(() => outcome === 'commit' ? this.#commit(fate) : this.rollback())
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

  #register (name: 'afterCommit' | 'afterRollback', fn: () => unknown): void {
    const late = this.isEnding ? this.closedError() : this.#callError()
    if (late !== null) throw late
    if (typeof fn !== 'function') {
      const error = noFunction(name, fn)
      this.#order.invalid(error)
      throw error
    }
    const hook = this.#transactions.hooks[name](fn, this.#savepoints.callersFrame())
    if (this.#savepoints.top !== null) this.#savepoints.inTurn(() => { hook.savepoint = this.#savepoints.top })
  }

  end (outcome: Outcome, reason?: Error): Promise<void> {
    if (this.ending !== null) {
      if (outcome === 'rollback' && this.#end.canBecomeRollback) {
        this.reason = reason
        this.#end.turnIntoRollback()
      }
      // A later end('commit') must not succeed if the work was rolled back.
      const mustFail = outcome === 'commit' && this.#end.outcome === 'rollback' && !this.rollbackOnly
      return mustFail ? this.ending.then(() => { throw this.closedError() }) : this.ending
    }
    this.reason = reason
    this.ending = this.beginEnd(this.rollbackOnly ? 'rollback' : outcome)
    return this.ending
  }

  protected startEnd (outcome: Outcome): Promise<void> {
    return this.#end.begin(outcome, this.failure)
  }

  finished (): void {
    this.#transactions.forgetRequest()
    this.#caller.forgetFailure()
    this.#savepoints.startAll()
    this.ended()
  }

  get acceptsCalls (): boolean {
    return !this.isEnding || (this.#end.outcome === 'commit' && this.#savepoints.isCallerInside)
  }

  /** Why a call is rejected, or null. */
  #callError (): Error | null {
    if (!this.acceptsCalls) return this.closedError()
    if (this.#savepointCalls !== null && this.#savepoints.isCallerRolledBack) return transactionEndedError()
    this.#caller.nextCall()
    return null
  }

  get #isTooLate (): boolean {
    return this.#end.outcome === 'rollback' || this.isClosed
  }

  tooLateError (): Error | null {
    return this.#isTooLate ? this.closedError() : null
  }

  invalid (error: unknown): void {
    this.#order.invalid(error)
  }

  endSavepoints (): void {
    this.#savepoints.endOpen(this.#transactions.unawaited)
  }

  hasLostWork (): boolean {
    return this.state === 'idle' && this.#rollbackOnly === null
  }

  lost (): void {
    this.#order.connectionLost()
  }

  innermostSavepoint (transaction: Transaction): string | null {
    return this.#savepoints.innermostIn(transaction)
  }
}
