import { pgScopeError } from '../errors.ts'
import type { Holder } from '../pool/holder.ts'
import type { Listed } from '../roster.ts'
import type { OwnedSession } from '../../types/session.ts'
import type { TransactionHost } from './transaction.ts'

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
export interface ManagedSession extends OwnedSession, Holder, Listed {
  /** What else is to be done when close() waits no longer. */
  forced: ((error: Error) => void) | undefined
  /** performance.now() when the open transaction got its connection, or null. */
  readonly since: number | null
  /** COMMIT can lose nothing, so nobody has to wait for its answer. */
  readonly losesNothing: boolean
  /** The error that keeps it from committing, or null. */
  readonly failure: Error | null
  readonly rollbackOnly: boolean
  /** Rows are still to come from a cursor. */
  readonly streaming: boolean
  /** Nothing is open, under way or about to begin: its end has nothing to do, and nobody has to wait for it. */
  readonly unused: boolean
  /**
   * The end. Only the first call decides; later ones get its promise.
   *
   * @param reason why a rollback comes now: what statements that wait or run are told
   * @throws the error that keeps the work from being committed; the connection is given back all the same
   */
  end (outcome: Outcome, reason?: Error): Promise<void>
}

export function sessionClosed (): Error {
  return pgScopeError('FST_PG_SCOPE_SESSION_CLOSED', 'The session is over: its request was answered, or it was closed. Work that goes on after an answer needs a unit of work of its own: app.db.scope(fn).')
}
