import { pgScopeError } from '../errors.ts'
import type { Session } from '../../types/session.ts'
import { ObservedPromise, type UnawaitedFailures } from '../exchange/observed-promise.ts'
import type { OutcomeHooks } from './outcome-hooks.ts'
import type { Savepoint, Savepoints } from './savepoints.ts'
import { NestedSession } from './nested-session.ts'
import type { CursorStream } from './cursor-stream.ts'
import type { Transaction } from '../exchange/transaction.ts'

/** What a transaction(fn) needs of the session that it stands in. */
export interface NestedTransactionsHost {
  readonly session: Session
  readonly savepoints: Savepoints
  readonly hooks: OutcomeHooks
  /** Failures of those that stand in no other one. */
  readonly unawaited: UnawaitedFailures
  streams (): Iterable<CursorStream>
  transaction (): Transaction | null
  /** The error that keeps it from going on, or null. */
  failure (): Error | null
  /** Whoever's turn comes now comes too late. */
  gone (): boolean
  /** Whether a failure that nobody awaits is told by the end of the session. */
  reports (): boolean
  /** What those are told who come too late. */
  closedError (): Error
  /** The transaction has failed before it asked for a connection, and what it failed by is undone. */
  forget (): void
}

/** How many fn may start inside of each other on one stack. */
const deepest = 50

/** The calls of transaction(fn) in one session: each a savepoint, kept when fn resolves and undone when it rejects. */
export class NestedTransactions {
  readonly #around: NestedTransactionsHost
  /** How many fn are being started on the current stack: each may call transaction(fn) before it returns. */
  #starting = 0

  constructor (around: NestedTransactionsHost) {
    this.#around = around
  }

  run<T> (fn: (session: Session) => Promise<T> | T): Promise<T> {
    const around = this.#around
    const { savepoints } = around
    const promise: ObservedPromise<T> = new ObservedPromise<T>((resolve, reject) => {
      const refuse = (failure: Error): void => {
        // The session knows of it already.
        queueMicrotask(() => promise.silence())
        reject(failure)
      }
      savepoints.inTurn(() => {
        const failure = around.gone() ? around.closedError() : around.failure()
        if (failure !== null) return refuse(failure)
        savepoints.enter((savepoint) => this.#within(savepoint, fn).then((result) => {
          resolve(result)
          savepoints.leave(savepoint)
        }, (error) => {
          // If nobody awaits it, it is the failure of what is around it.
          if (savepoint.parent !== null || around.reports()) promise.silence()
          ;(savepoint.parent ?? around).unawaited.add(promise, error)
          reject(error)
          savepoints.leave(savepoint)
        }))
      }, refuse)
    })
    return promise
  }

  async #within<T> (savepoint: Savepoint, fn: (session: Session) => Promise<T> | T): Promise<T> {
    const { session, savepoints, hooks } = this.#around
    savepoint.hooks = hooks.count
    try {
      // A stack of its own; meanwhile only what is called from within fn may go on.
      if (this.#starting === deepest) await null
      const result = await this.#start(() => fn(new NestedSession(session, savepoint)))
      savepoint.fn = 'settled'
      await savepoints.innermost(savepoint)
      const { first } = savepoint.unawaited
      if (first !== null) throw first.error
      await this.#keep(savepoint)
      return result
    } catch (error) {
      savepoint.fn = 'undone'
      await savepoints.innermost(savepoint)
      await this.#undo(savepoint, error)
      hooks.undone(savepoint)
      throw error
    }
  }

  #start<T> (fn: () => T): T {
    this.#starting++
    try {
      return fn()
    } finally {
      this.#starting--
    }
  }

  async #keep (savepoint: Savepoint): Promise<void> {
    const around = this.#around
    const transaction = around.transaction()
    if (transaction?.isIdle === false) await transaction.settled()
    if (around.gone()) throw around.closedError()
    const failure = around.failure()
    if (failure !== null) throw failure
    if (transaction !== null && savepoint.sentIn === transaction) around.savepoints.keep(savepoint)
  }

  /** ROLLBACK TO, after which the transaction is as it was before. Where that fails, the session stays failed. */
  async #undo (savepoint: Savepoint, cause: unknown): Promise<void> {
    const around = this.#around
    const transaction = around.transaction()
    if (transaction === null || savepoint.sentIn !== transaction) return
    await transaction.settled()
    if (transaction.unasked && !around.gone()) return around.forget()
    if (around.gone() || transaction.isEnded || transaction.lost) return
    around.savepoints.forget(savepoint)
    for (const stream of around.streams()) {
      if (stream.savepoint?.within(savepoint)) stream.gone(pgScopeError('FST_PG_SCOPE_TRANSACTION_ABORTED', 'The transaction(fn) that this stream was opened in was rolled back, and its cursor with it.', cause))
    }
    await transaction.rollbackTo(savepoint.name)
  }
}
