import { pgScopeError } from '../errors.ts'
import { ObservedPromise, type UnawaitedFailures } from '../observed-promise.ts'
import type { Transaction } from '../exchange/transaction.ts'
import type { TransactionModes } from '../transaction-modes.ts'
import type { Session } from '../../types/session.ts'
import type { CursorStream } from './cursor-stream.ts'
import type { OutcomeHooks } from './outcome-hooks.ts'
import type { Savepoint } from './savepoint.ts'
import type { Savepoints } from './savepoints.ts'

/** What transaction(fn) and savepoint() need of their session. */
export interface SavepointHost {
  readonly session: Session
  /** What stands for the engine in current-session.ts. */
  readonly engine: object
  readonly savepoints: Savepoints
  readonly hooks: OutcomeHooks
  /** Failures outside of all savepoints. */
  readonly unawaited: UnawaitedFailures
  streams (): Iterable<CursorStream>
  transaction (): Transaction | null
  /** The error of the failed transaction, or null. */
  failure (): Error | null
  /** Why a call is rejected when its turn comes, or null: the session rolls back or is closed. */
  tooLateError (): Error | null
  /** Whether the end of the session reports a failure that no caller awaits. */
  reportsFailures (): boolean
  /** What the next transaction begins with, as far as that is known. */
  modes (): TransactionModes
  /** Sends a statement, in turn. @param isOutside in front of the savepoints that were not sent yet */
  send (text: string, isOutside?: boolean): Promise<unknown>
  /** A call was rejected in its turn: the transaction fails. */
  fail (error: Error): void
  /** Discards a transaction that failed before it asked for a connection, after the failed work was rolled back. */
  discardUnsent (): void
}

/** Why a savepoint cannot be opened or kept now, or null. */
function refusal (host: SavepointHost): Error | null {
  return host.tooLateError() ?? host.failure()
}

/** Calls `open` when it is the turn of the call, unless no savepoint can be opened then. */
export function openInTurn<T> (
  host: SavepointHost, open: (resolve: (value: T) => void, reject: (error: unknown) => void) => void
): ObservedPromise<T> {
  const promise: ObservedPromise<T> = new ObservedPromise<T>((resolve, reject) => {
    const refuse = (failure: Error): void => {
      // The session has recorded this failure already.
      queueMicrotask(() => promise.silence())
      reject(failure)
    }
    host.savepoints.inTurn(() => {
      const failure = refusal(host)
      if (failure === null) open(resolve, reject)
      else refuse(failure)
    }, refuse)
  })
  return promise
}

/** A failure that no caller awaits fails what encloses the call: a savepoint, or the session. */
export function reportUnlessAwaited (
  host: SavepointHost, enclosing: Savepoint | null, promise: ObservedPromise<unknown>, error: unknown
): void {
  if (enclosing !== null || host.reportsFailures()) promise.silence()
  ;(enclosing ?? host).unawaited.add(promise, error)
}

/**
 * Keeps the work of a savepoint. RELEASE is sent with the next statement.
 *
 * @throws the failure of its work: it is not released
 */
export async function releaseSavepoint (host: SavepointHost, savepoint: Savepoint): Promise<void> {
  const { first } = savepoint.unawaited
  if (first !== null) throw first.error
  const transaction = host.transaction()
  if (transaction?.isIdle === false) await transaction.settled()
  const failure = refusal(host)
  if (failure !== null) throw failure
  if (transaction !== null && savepoint.sentIn === transaction) host.savepoints.release(savepoint)
}

/**
 * Undoes the work of a savepoint, and runs the hooks that were registered in it.
 *
 * @param goesOn the savepoint stays open
 */
export async function undoSavepoint (
  host: SavepointHost, savepoint: Savepoint, cause?: unknown, goesOn = false
): Promise<void> {
  await rollBackTo(host, savepoint, cause)
  if (!goesOn) savepoint.trace?.rolledBack(cause ?? null)
  host.hooks.savepointRolledBack(savepoint)
}

/**
 * Sends ROLLBACK TO SAVEPOINT, which makes a failed transaction usable again. If that fails, the session stays failed.
 */
async function rollBackTo (host: SavepointHost, savepoint: Savepoint, cause: unknown): Promise<void> {
  const transaction = host.transaction()
  if (transaction === null || savepoint.sentIn !== transaction) return
  await transaction.settled()
  if (transaction.neverAcquired && host.tooLateError() === null) return host.discardUnsent()
  if (host.tooLateError() !== null || transaction.isEnded || transaction.isLost) return
  host.savepoints.dropReleases(savepoint)
  for (const stream of host.streams()) {
    if (!stream.savepoint?.isWithin(savepoint)) continue
    stream.cursorClosed(pgScopeError('FST_PG_SCOPE_TRANSACTION_ABORTED',
      `The ${savepoint.label} in which this stream was opened was rolled back, which closed its cursor.`, cause))
  }
  await transaction.rollbackTo(savepoint.identifier)
}
