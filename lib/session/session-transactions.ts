import { pgScopeError } from '../errors.ts'
import { isPromiseLike } from '../kind-of.ts'
import { enterWorkOf } from '../pool/work-context.ts'
import { UnawaitedFailures } from '../observed-promise.ts'
import type { Statement } from '../exchange/statement.ts'
import type { Settings, TransactionConfig } from '../exchange/transaction-config.ts'
import { transactionAborted } from '../exchange/transaction-errors.ts'
import type { TransactionModes } from '../transaction-modes.ts'
import type { TransactionOwner } from '../exchange/transaction-host.ts'
import { Transaction } from '../exchange/transaction.ts'
import type { SessionState } from '../../types/session.ts'
import type { CursorStream } from './cursor-stream.ts'
import type { SessionHost } from './managed-session.ts'
import { OutcomeHooks } from './outcome-hooks.ts'
import { type Fate, throwIfUndone } from './savepoint.ts'
import type { Savepoints } from './savepoints.ts'
import type { RequestLabel } from '../telemetry/request-label.ts'

const noop = (): void => {}

/** The session. */
export interface TransactionsOwner extends TransactionOwner {
  /** The error of calls after the end. */
  closedError (): Error
}

/**
 * The transactions of one session, one after the other: the first statement begins one, COMMIT or ROLLBACK ends it and
 * what belongs to it: streams, hooks, failures that no caller has awaited. The state of the session is the state of its
 * transaction.
 */
export class SessionTransactions {
  /** Null if none was begun, or if the session has left the last one. */
  current: Transaction | null = null
  /** No further transaction begins. */
  isClosed = false
  /** A transaction before the current one was committed. */
  hasCommitted = false
  readonly hooks: OutcomeHooks
  /** The open streams. Allocated lazily. */
  #streams: Set<CursorStream> | null = null
  /** Failures of transaction(fn) and savepoints that no caller has awaited. Allocated lazily. */
  #unawaited: UnawaitedFailures | null = null
  /** Calls of submit(). */
  #submissions = 0
  readonly #host: SessionHost
  readonly #config: TransactionConfig
  readonly #owner: TransactionsOwner
  readonly #savepoints: Savepoints
  readonly #label: RequestLabel | undefined
  /** Computes the settings of the request when a transaction begins. */
  #requestSettings: (() => Settings | Promise<Settings>) | undefined
  /** A statement may have made the transaction read-write or serializable. */
  #mayHaveChangedMode = false
  /** A statement may have had an effect on the current transaction that is not a write. */
  #hasOtherEffects = false

  constructor (
    host: SessionHost, config: TransactionConfig, owner: TransactionsOwner, savepoints: Savepoints,
    requestSettings: (() => Settings | Promise<Settings>) | undefined, label: RequestLabel | undefined
  ) {
    this.#host = host
    this.hooks = new OutcomeHooks(host)
    this.#config = config
    this.#owner = owner
    this.#savepoints = savepoints
    this.#requestSettings = requestSettings
    this.#label = label
  }

  get state (): SessionState {
    if (this.current === null) return this.isClosed ? 'closed' : 'idle'
    const { state } = this.current
    return state === 'ended' ? 'settling' : state
  }

  /** The current transaction, unless it has ended. */
  get open (): Transaction | null {
    return this.current?.isEnded === false ? this.current : null
  }

  /** The error of further statements in a failed transaction, or null. */
  get failure (): Error | null {
    return this.current?.state === 'failed' ? this.current.refusal() : null
  }

  /** The transaction has failed and has no connection: only a rollback is possible. */
  get isLost (): boolean {
    return this.current?.state === 'failed' && this.current.isLost
  }

  get streams (): Set<CursorStream> {
    this.#streams ??= new Set()
    return this.#streams
  }

  /** A cursor has rows that were not read yet. */
  get isStreaming (): boolean {
    return this.#streams !== null && this.#streams.size > 0
  }

  get unawaited (): UnawaitedFailures {
    this.#unawaited ??= new UnawaitedFailures()
    return this.#unawaited
  }

  /** The first failure of a savepoint that no caller has awaited, or null. */
  get unawaitedFailure (): { readonly error: unknown } | null {
    return this.#unawaited?.first ?? null
  }

  get nothingAwaited (): boolean {
    return this.current?.nothingAwaited !== false
  }

  get losesNothing (): boolean {
    return this.#config.losesNothing && !this.#mayHaveChangedMode
  }

  /** See ManagedSession. */
  get resting (): number | null {
    const mayEnd = this.state === 'active' && this.nothingAwaited && !this.isStreaming && this.hooks.count === 0 &&
      !this.#hasOtherEffects
    return mayEnd ? this.#submissions : null
  }

  /** What the current transaction has begun with, unless a statement may have changed it. */
  get modes (): TransactionModes {
    return this.#mayHaveChangedMode ? {} : this.#config.modes
  }

  /** @param isOutside they are sent in front of the savepoints that were not sent yet, as the first statements */
  submit (statements: readonly Statement[], isOutside = false): void {
    this.#submissions++
    if (this.open === null) this.#hasOtherEffects = false
    for (const { changesMode, hasOtherEffects } of statements) {
      this.#mayHaveChangedMode ||= changesMode
      this.#hasOtherEffects ||= hasOtherEffects
    }
    if (this.open === null) this.#begin(statements, isOutside)
    else this.open.submit(this.#withSavepoints(this.open, statements))
  }

  #begin (statements: readonly Statement[], isOutside: boolean): void {
    let settings: Settings | Promise<Settings> | undefined
    const { rejection } = statements[0]!
    let failure = rejection === null ? null : transactionAborted(rejection) as Error
    try {
      if (failure === null) settings = this.#requestSettings?.()
    } catch (error) { // the user's settings(request) or role(request)
      failure = error as Error
    }
    if (this.open !== null) {
      // The user's function used this session itself, which began a transaction that failed.
      if (isPromiseLike(settings)) settings.then(undefined, noop)
      return this.open.submit(statements)
    }
    const transaction = new Transaction(this.#host, this.#config, settings, this.#owner, this.#label)
    this.current = transaction
    const all = isOutside ? statements : this.#withSavepoints(transaction, statements)
    if (failure !== null) return transaction.refuseAll(failure, statements)
    // The rest of the handler runs inside its session. A caller of app.db.session() may have several side by side.
    if ((this.#owner.requestOf ?? null) !== null) enterWorkOf(this.#owner)
    transaction.start(all)
  }

  #withSavepoints (transaction: Transaction, statements: readonly Statement[]): readonly Statement[] {
    if (this.#savepoints.isEmpty) return statements
    return [...this.#savepoints.controlStatements(transaction), ...statements]
  }

  /**
   * Sends COMMIT after everything is answered.
   *
   * @param isEnd the session is closed with the transaction
   * @param fate of the transaction(fn) from which a success is sent, which needs its work
   * @throws why nothing is committed. If that was known before COMMIT, the transaction is still open.
   */
  async commit (isEnd: boolean, fate: Fate | null): Promise<void> {
    this.#closeStreams()
    throwIfUndone(fate)
    // What its caller has not handled before the end is no success any more.
    this.#throwFailure()
    if (this.current?.nothingAwaited === false) {
      await this.current.settled()
      this.#throwFailure()
    }
    if (this.open === null) return this.#leave('committed', isEnd)
    await this.commitAtOnce(isEnd)
  }

  #throwFailure (): void {
    if (this.failure !== null) throw this.failure
    if (this.unawaitedFailure !== null) throw this.unawaitedFailure.error
  }

  /** The fast path of commit(), with as few promises as possible: nothing is awaited, and there is no failure. */
  commitAtOnce (isEnd: boolean): Promise<void> {
    return this.current!.commit().then(() => this.#leave('committed', isEnd), (error) => {
      this.#leave('rolledBack', isEnd)
      throw error
    })
  }

  /** Sends ROLLBACK after everything is answered, for a caller's rollback(). */
  async rollback (): Promise<void> {
    this.#closeStreams()
    if (this.current?.awaitsSettings) await this.current.stop(notSentError())
    if (this.current !== null) await this.current.settled()
    if (this.open !== null) await this.open.rollback()
    this.#rolledBack(false)
  }

  /** Closes the session: cancels running statements, and rolls back. */
  async close (): Promise<void> {
    this.#closeStreams()
    if (this.open !== null) await this.open.rollback(() => this.#owner.closedError())
    this.#rolledBack(true)
  }

  #rolledBack (isEnd: boolean): void {
    this.#unawaited?.clear()
    this.#leave('rolledBack', isEnd)
  }

  /** The next statement begins another transaction. */
  #leave (outcome: 'committed' | 'rolledBack', isEnd: boolean): void {
    if (outcome === 'committed' && this.current !== null) this.hasCommitted = true
    this.current = null
    if (isEnd) this.isClosed = true
    this.hooks[outcome]()
  }

  /** Discards a transaction that failed before it asked for a connection, after the failed work was rolled back. */
  discardUnsent (): void {
    this.current?.rollback()
    this.current = null
  }

  #closeStreams (): void {
    for (const stream of this.#streams ?? []) stream.cursorClosed(this.#owner.closedError())
  }

  /** The session has ended: releases the request, to which the function of the settings refers. */
  forgetRequest (): void {
    this.isClosed = true
    this.#requestSettings = undefined
  }
}

function notSentError (): Error {
  return pgScopeError('FST_PG_SCOPE_CANCELED', 'rollback() was called while the transaction waited for ' +
    '`settings(request)` or `role(request)`: the statement was not sent.')
}
