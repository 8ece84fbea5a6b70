import { pgScopeError } from '../errors.ts'
import type { Call } from '../exchange/call.ts'
import type { ConnectionOwner } from '../pool/work-context.ts'
import type { ArraySetMember } from '../array-set.ts'
import type { WireValue } from '../postgres/messages.ts'
import type { OwnedSession } from '../../types/session.ts'
import type { Writer } from '../exchange/written-position.ts'
import type { TransactionHost } from '../exchange/transaction-host.ts'
import type { WritingSession } from './current-session.ts'
import type { RequestLabel } from '../telemetry/request-label.ts'

/** What a session needs of the engine. */
export interface SessionHost extends TransactionHost {
  /** The promises of running hooks. */
  readonly pending: Set<Promise<unknown>>
  /** Rejects a statement that cannot work over the connections of the primary, for example behind PgBouncer. */
  vet (call: Call): void
  /** Logs an error that no caller receives: of a hook, or of a COMMIT that is not awaited. */
  report (error: unknown, message: string): void
  /** Logs a statement that waits for a transaction(fn) for seconds. */
  waitsLong (text: string, label: RequestLabel | undefined): void
  /** The session has ended. */
  ended (session: ManagedSession): void
}

export type Outcome = 'commit' | 'rollback'

/** A session as the engine and the end of a request see it. */
export interface ManagedSession extends OwnedSession, ConnectionOwner, ArraySetMember, WritingSession {
  /** Called when close() stops waiting for the session. */
  onForcedClose: ((error: Error) => void) | undefined
  /** Set by what runs its work again. */
  attempt: number
  /** Undefined outside of requests. */
  readonly label: RequestLabel | undefined
  /** What alone ends the transaction, so that commit() and rollback() are refused; null: its caller may. */
  soleEnd: 'request' | 'fn' | null
  /** Sends a statement that nobody awaits: it shares the round trip of COMMIT, which fails if it fails. */
  addToEnd (text: string, values: WireValue[]): void
  /** commit() has saved a part of its work. */
  readonly hasCommitted: boolean
  /** See SessionBase. */
  shareWriter (writer: Writer): void
  /** A request or scope(fn) awaits end('commit'), which rejects with any failure that no caller awaited before. */
  endIsAwaited: boolean
  /** performance.now() when the open transaction acquired its connection, or null. */
  readonly since: number | null
  /** COMMIT has nothing to save, so its answer need not be awaited. */
  readonly losesNothing: boolean
  /** No caller waits for an answer: nothing in progress can still fail. */
  readonly nothingAwaited: boolean
  /** The error that prevents a commit, or null. */
  readonly failure: Error | null
  /** The first error of a statement that failed alone while the session continued (autocommit), or null. */
  readonly firstFailure: unknown
  readonly rollbackOnly: boolean
  /**
   * A transaction is open, nothing is in progress, and only the server knows whether its end would lose anything: how
   * often the session was used so far. Otherwise null.
   */
  readonly resting: number | null
  /** A cursor has rows that were not read yet. */
  readonly streaming: boolean
  /** Nothing is open, in progress or about to begin: the end has nothing to do and need not be awaited. */
  readonly unused: boolean
  /**
   * Ends the transaction but not the session, which the response body may continue to use. Waits for everything in
   * progress, even when called inside a transaction(fn).
   *
   * @throws the error that prevents the commit
   */
  settle (outcome: Outcome): Promise<void>
  /**
   * Ends the session. The first call decides the outcome; later calls return its promise, except that a rollback still
   * replaces a commit until COMMIT is sent.
   *
   * @param reason why the session is rolled back: the error of statements that wait or run
   * @throws the error that prevents the commit; the connection is returned in any case
   */
  end (outcome: Outcome, reason?: Error): Promise<void>
}

export function sessionClosedError (): Error {
  return pgScopeError('FST_PG_SCOPE_SESSION_CLOSED', 'The session has ended: its request was answered, or it was ' +
    'closed. For work that continues after the response use app.db.scope(fn).')
}

export function transactionEndedError (): Error {
  return pgScopeError('FST_PG_SCOPE_SESSION_CLOSED', 'The transaction(fn) that this session was passed to has ended. ' +
    'Await every call inside fn, or use the enclosing session.')
}
