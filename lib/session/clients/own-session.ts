import type { Caller } from '../../library-session.ts'
import type { Session } from '../../../types/session.ts'
import type { Reject } from '../turns.ts'

/** The client's transaction, as its own session sees it. */
export interface OwnTransaction {
  /** Another one that begins now is inside of it. */
  readonly mayEnclose: boolean
  /** No other one is open inside of it. */
  readonly isInnermost: boolean
  /** What is around it has ended it. */
  lose (): void
}

/** The session of one client's transaction alone, where BEGIN and COMMIT are real. */
export interface OwnSession {
  readonly session: Session & { end (outcome: 'commit' | 'rollback'): Promise<void> }
  /** Starts BEGIN when no other transaction is open around it. @param reject for a BEGIN that waits too long */
  whenFree (start: () => void, reject: Reject): void
  began (transaction: OwnTransaction): void
  /** COMMIT or ROLLBACK was called. @param leaves false: it was rejected before its turn */
  leaving (leaves: boolean): void
  /** @param proceed makes the calls of the client that follow: before other transactions begin */
  ended (proceed: () => void): void
  /** A command has failed. */
  report (caller: Caller, error: unknown): void
  /** Makes a call that had to wait for the end, even if what is around has begun to end meanwhile. */
  resume<T> (call: () => T): T
}

/** Of an engine: nothing is around it. */
export function wholeSession (session: OwnSession['session']): OwnSession {
  return {
    session,
    whenFree: (start) => start(),
    began () {},
    leaving () {},
    ended: (proceed) => proceed(),
    report () {},
    resume: (call) => call()
  }
}
