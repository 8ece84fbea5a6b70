// The way in for libraries: what a session does for the subpath exports beyond its public interface.
import type { Session } from '../types/session.ts'
import type { ObservedPromise } from './observed-promise.ts'
import type { TransactionModes } from './transaction-modes.ts'

/** Registered, so that two copies of the package agree on it. */
export const forLibraries: unique symbol = Symbol.for('fastify-pg-scope.libraries') as never

export interface LibrarySession {
  readonly [forLibraries]: ForLibraries
}

export interface ForLibraries {
  /** What the transactions of the session begin with, as far as that is known. */
  readonly modes: TransactionModes
  /**
   * A transaction for a client of pg, which has not begun yet.
   *
   * @param isWhole the session has no other use: its own BEGIN and COMMIT stand for it
   * @param home runs calls as part of the transaction(fn) whose session the client uses
   * @throws FST_PG_SCOPE_SESSION_CLOSED
   */
  transaction (isWhole?: boolean, home?: { run<T> (fn: () => T): T }): ClientTransaction
  /** A call was rejected before it was sent: the session fails. */
  invalid (error: Error): void
}

/** What query() of a session takes. */
export type CallConfig = Record<string, unknown>

/** The promise that the caller of a command has: a failure that it does not await fails the session. */
export type Caller = ObservedPromise<unknown>

/**
 * What one client has begun, from BEGIN to COMMIT or ROLLBACK. Each call takes its place in the order of the session at
 * once, behind the earlier calls of the client: none has to be awaited before the next one.
 */
export interface ClientTransaction {
  /** Its own end, or the end of what is around it. */
  readonly isOver: boolean
  /** COMMIT or ROLLBACK was called: later calls of the client are not part of it. */
  readonly isLeaving: boolean
  /** Its work is lost, because what is around it has ended, and its client has not left it yet. */
  readonly isLost: boolean
  /** The state of its session. */
  readonly state: Session['state']
  /**
   * BEGIN. Transactions that begin in the same turn of the event loop run one after the other.
   *
   * @param previous the last transaction of the client, which may not have ended yet
   * @param name SAVEPOINT alone begins it, and RELEASE ends it; null for BEGIN
   */
  begin (
    caller: Caller, modes: TransactionModes, previous: ClientTransaction | null, name: string | null
  ): Promise<void>
  /** Makes a call as part of it. @param call gets the session of this transaction alone, or null */
  run<T> (call: (own: Session | null) => Promise<T>): Promise<T>
  /** Makes a call that follows its end. The values of `config` are captured now. */
  runAfter<T> (config: CallConfig, call: (config: CallConfig) => Promise<T>): Promise<T>
  /** SET TRANSACTION. */
  set (modes: TransactionModes): Promise<void>
  savepoint (name: string): Promise<void>
  release (caller: Caller, name: string): Promise<void>
  /** @param isText as for commit() */
  rollbackTo (caller: Caller, name: string, isText: boolean): Promise<void>
  /**
   * @param isText a failure also rejects what follows: the rest of a text, whose transaction stays open if it has
   *   failed before, or AND CHAIN
   * @throws why its work cannot be kept: it is rolled back
   */
  commit (caller: Caller, isText: boolean): Promise<void>
  /** Undoes all of it, whatever is open inside. */
  rollback (caller: Caller, isText?: boolean): Promise<void>
}
