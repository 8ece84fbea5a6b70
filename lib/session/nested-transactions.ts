import { pgScopeError } from '../errors.ts'
import type { Session } from '../../types/session.ts'
import { ObservedPromise, type UnawaitedFailures } from '../exchange/observed-promise.ts'
import type { OutcomeHooks } from './outcome-hooks.ts'
import type { Savepoint, Savepoints } from './savepoints.ts'
import { NestedSession } from './nested-session.ts'
import type { CursorStream } from './cursor-stream.ts'
import type { Transaction } from '../exchange/transaction.ts'

/** What transaction(fn) needs of its session. */
export interface NestedTransactionsHost {
  readonly session: Session
  readonly savepoints: Savepoints
  readonly hooks: OutcomeHooks
  /** Failures of outermost transaction(fn) calls. */
  readonly unawaited: UnawaitedFailures
  streams (): Iterable<CursorStream>
  transaction (): Transaction | null
  /** The error of the failed transaction, or null. */
  failure (): Error | null
  /** Why a call is rejected when its turn comes, or null: the session rolls back or is closed. */
  tooLateError (): Error | null
  /** Whether the end of the session reports a failure that no caller awaits. */
  reportsFailures (): boolean
  /** Discards a transaction that failed before it asked for a connection, after the failed work was rolled back. */
  discardUnsent (): void
}

/** How many calls of fn may start inside each other on one stack. */
const maxStarting = 50

/**
 * The calls of transaction(fn) in one session. Each is a savepoint: released when fn resolves, rolled back when it
 * rejects.
 */
export class NestedTransactions {
  readonly #host: NestedTransactionsHost
  /** How many calls of fn are starting on the current stack: fn may call transaction(fn) before it returns. */
  #starting = 0

  constructor (host: NestedTransactionsHost) {
    this.#host = host
  }

  run<T> (fn: (session: Session) => Promise<T> | T): Promise<T> {
    const host = this.#host
    const { savepoints } = host
    const promise: ObservedPromise<T> = new ObservedPromise<T>((resolve, reject) => {
      const refuse = (failure: Error): void => {
        // The session has recorded this failure already.
        queueMicrotask(() => promise.silence())
        reject(failure)
      }
      savepoints.inTurn(() => {
        const failure = host.tooLateError() ?? host.failure()
        if (failure !== null) return refuse(failure)
        savepoints.enter((savepoint) => this.#run(savepoint, fn).then((result) => {
          resolve(result)
          savepoints.leave(savepoint)
        }, (error) => {
          // A failure that no caller awaits fails the enclosing transaction.
          if (savepoint.parent !== null || host.reportsFailures()) promise.silence()
          ;(savepoint.parent ?? host).unawaited.add(promise, error)
          reject(error)
          savepoints.leave(savepoint)
        }))
      }, refuse)
    })
    return promise
  }

  async #run<T> (savepoint: Savepoint, fn: (session: Session) => Promise<T> | T): Promise<T> {
    const { session, savepoints, hooks } = this.#host
    savepoint.hooks = hooks.count
    try {
      // Continues on a new stack; meanwhile only calls made inside fn proceed.
      if (this.#starting === maxStarting) await null
      const result = await this.#start(() => fn(new NestedSession(session, savepoint)))
      savepoint.fn = 'settled'
      await savepoints.whenInnermost(savepoint)
      const { first } = savepoint.unawaited
      if (first !== null) throw first.error
      await this.#release(savepoint)
      return result
    } catch (error) {
      savepoint.fn = 'rolledBack'
      await savepoints.whenInnermost(savepoint)
      await this.#rollBack(savepoint, error)
      hooks.savepointRolledBack(savepoint)
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

  async #release (savepoint: Savepoint): Promise<void> {
    const host = this.#host
    const transaction = host.transaction()
    if (transaction?.isIdle === false) await transaction.settled()
    const failure = host.tooLateError() ?? host.failure()
    if (failure !== null) throw failure
    if (transaction !== null && savepoint.sentIn === transaction) host.savepoints.release(savepoint)
  }

  /**
   * Sends ROLLBACK TO SAVEPOINT, which makes a failed transaction usable again. If that fails, the session stays
   * failed.
   */
  async #rollBack (savepoint: Savepoint, cause: unknown): Promise<void> {
    const host = this.#host
    const transaction = host.transaction()
    if (transaction === null || savepoint.sentIn !== transaction) return
    await transaction.settled()
    if (transaction.neverAcquired && host.tooLateError() === null) return host.discardUnsent()
    if (host.tooLateError() !== null || transaction.isEnded || transaction.isLost) return
    host.savepoints.dropReleases(savepoint)
    for (const stream of host.streams()) {
      if (!stream.savepoint?.isWithin(savepoint)) continue
      stream.cursorClosed(pgScopeError('FST_PG_SCOPE_TRANSACTION_ABORTED',
        'The transaction(fn) in which this stream was opened was rolled back, which closed its cursor.', cause))
    }
    await transaction.rollbackTo(savepoint.name)
  }
}
