import { pgScopeError } from '../errors.ts'
import { ObservedPromise } from '../observed-promise.ts'
import { unfinishedError } from './clients/client-errors.ts'
import type { ManagedSession } from './managed-session.ts'
import { rejected } from './rejected.ts'
import type { Savepoints } from './savepoints.ts'

const noop = (): void => {}

/** What commit() and rollback() need of their session. */
export interface SettlementHost {
  readonly endIsAwaited: boolean
  /** What alone ends the transaction, so that commit() and rollback() are refused; null: its caller may. */
  readonly soleEnd: ManagedSession['soleEnd']
  /** Why the call is rejected when its turn comes, or null. */
  tooLateError (): Error | null
  /** A call was rejected before it began: the session fails. */
  invalid (error: Error): void
  /** Ends the savepoints of savepoint() that are open: their work goes with the transaction. */
  endSavepoints (): void
  /** Whether work was lost by a commit() that failed. */
  hasLostWork (): boolean
}

/** A user's commit() and rollback(): the calls after them wait, and belong to the next transaction. */
export class CallerSettlement {
  /** Resolves when the commit() or rollback() in progress has ended; null if there is none. */
  inProgress: Promise<unknown> | null = null
  /** A commit() that failed and was not awaited so far: its work is lost, so the end must fail. */
  #failedCommit: { readonly promise: ObservedPromise<void>, readonly error: Error } | null = null
  readonly #savepoints: Savepoints

  constructor (savepoints: Savepoints) {
    this.#savepoints = savepoints
  }

  /** The error of a commit() whose work is lost without its caller knowing, or null. */
  get failure (): Error | null {
    return this.#failedCommit?.error ?? null
  }

  /** A call after an awaited commit() that failed shows that the caller has handled it. */
  nextCall (): void {
    if (this.#failedCommit?.promise.observed === true) this.#failedCommit = null
  }

  forgetFailure (): void {
    this.#failedCommit = null
  }

  run (name: 'commit' | 'rollback', settle: () => Promise<void>, host: SettlementHost): Promise<void> {
    if (this.#savepoints.isCallerInside || host.soleEnd !== null) {
      const error = host.soleEnd === 'request' ? endedByRequest(name) : insideTransaction(name)
      host.invalid(error)
      return rejected(error)
    }
    const promise: ObservedPromise<void> = new ObservedPromise((resolve, reject) => {
      this.#savepoints.toSettle(() => {
        const late = host.tooLateError()
        if (late !== null) return reject(late)
        if (name === 'commit' && this.#savepoints.client !== null) {
          const error = unfinishedError()
          host.invalid(error)
          return reject(error)
        }
        this.#savepoints.hold()
        host.endSavepoints()
        const settled = settle()
        this.inProgress = settled.catch(noop).then(() => {
          this.inProgress = null
          this.#savepoints.proceed()
        })
        settled.then(resolve, (error) => {
          if (host.hasLostWork()) this.#failedCommit = { promise, error }
          reject(error)
        })
      })
    })
    // The end reports the failure.
    if (host.endIsAwaited) promise.silence()
    return promise
  }
}

function insideTransaction (name: string): Error {
  return pgScopeError('FST_PG_SCOPE_SESSION_STATE', `${name}() was called inside transaction(fn), ` +
    'whose work is ended by fn alone. Let fn resolve or throw instead.')
}

function endedByRequest (name: string): Error {
  return pgScopeError('FST_PG_SCOPE_SESSION_STATE', `${name}() was called in a request with an idempotency key, ` +
    'whose key, work and answer are saved by one transaction. Use transaction(fn) to undo a part of the work.')
}

export function rollbackOnlyError (reason: string): Error {
  return pgScopeError('FST_PG_SCOPE_TRANSACTION_ABORTED', 'commit() was called after setRollbackOnly()' +
    `${reason && ` (${reason})`}.`)
}

export function nothingToRollBack (): Error {
  return pgScopeError('FST_PG_SCOPE_SESSION_STATE', 'setRollbackOnly() was called in mode \'autocommit\', ' +
    'where each statement is committed already. Use transaction(fn), or mode \'transaction\'.')
}
