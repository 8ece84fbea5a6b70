import { pgScopeError } from '../errors.ts'
import type { ConnectionOwner } from '../pool/work-context.ts'
import type { ArraySetMember } from '../array-set.ts'
import type { OwnedSession } from '../../types/session.ts'
import type { TransactionHost } from '../exchange/transaction.ts'

/** What a session needs of the engine. */
export interface SessionHost extends TransactionHost {
  /** Promises of hooks that run. */
  readonly pending: Set<Promise<unknown>>
  /** Refuses a statement that cannot work over what the connections go through. */
  vet (text: string): void
  /** A hook failed, or a COMMIT that nobody waits for. */
  report (error: unknown, message: string): void
  /** The session is over. */
  ended (session: ManagedSession): void
}

export type Outcome = 'commit' | 'rollback'

/** A session as the engine and a request's end see it. */
export interface ManagedSession extends OwnedSession, ConnectionOwner, ArraySetMember {
  /** What else is to be done when close() waits no longer. */
  onForcedClose: ((error: Error) => void) | undefined
  /** Its end with 'commit' is certain to be awaited, by a request or scope(fn), and fails by whatever nobody awaited before. */
  endIsAwaited: boolean
  /** performance.now() when the open transaction got its connection, or null. */
  readonly since: number | null
  /** COMMIT can lose nothing, so nobody has to wait for its answer. */
  readonly losesNothing: boolean
  /** Nobody waits for an answer: nothing that is under way can still fail. */
  readonly nothingAwaited: boolean
  /** The error that keeps it from committing, or null. */
  readonly failure: Error | null
  /** What a statement failed with first that stood alone, so that the session went on; null where there is none. */
  readonly firstFailure: unknown
  readonly rollbackOnly: boolean
  /** Rows are still to come from a cursor. */
  readonly streaming: boolean
  /** Nothing is open, under way or about to begin: its end has nothing to do, and nobody has to wait for it. */
  readonly unused: boolean
  /**
   * Ends the transaction but not the session: the body that is sent now may go on using it. Waits for what is under way, also where
   * it is called inside of a transaction(fn).
   *
   * @throws the error that keeps the work from being committed
   */
  settle (outcome: Outcome): Promise<void>
  /**
   * The end. Only the first call decides; later ones get its promise.
   *
   * @param reason why a rollback comes now: what statements that wait or run are told
   * @throws the error that keeps the work from being committed; the connection is given back all the same
   */
  end (outcome: Outcome, reason?: Error): Promise<void>
}

export function sessionClosedError (): Error {
  return pgScopeError('FST_PG_SCOPE_SESSION_CLOSED', 'The session is over: its request was answered, or it was closed. Work that goes on after an answer needs a unit of work of its own: app.db.scope(fn).')
}

export function transactionEndedError (): Error {
  return pgScopeError('FST_PG_SCOPE_SESSION_CLOSED', 'The transaction(fn) that this session was passed to has ended. Await everything inside fn, or use the session around it.')
}
