// The errors of transactions that clients of pg begin on a session.
import { pgScopeError } from '../../errors.ts'

/** How long a call of a client waits for another transaction of the same session. Milliseconds. */
export const maxWait = 5000

export function waitedTooLong (): Error {
  return pgScopeError('FST_PG_SCOPE_SESSION_STATE', `A call in a library's transaction waited ${maxWait} ms for ` +
    'another transaction of the same session, which is still open. Inside of the later transaction, use its own ' +
    'client, not that of the one around it, and begin transactions one after the other.')
}

export function lostError (): Error {
  return pgScopeError('FST_PG_SCOPE_TRANSACTION_ABORTED', 'A transaction that a library has begun has ended with ' +
    'what is around it: rollback() of the session, or the rollback of a savepoint. Send ROLLBACK or BEGIN first.')
}

export function rolledBackWithAnother (): Error {
  return pgScopeError('FST_PG_SCOPE_TRANSACTION_ABORTED', 'A library\'s transaction was rolled back with another one ' +
    'of the same session, which was open when it began. Send ROLLBACK or BEGIN first.')
}

/** The error of a call that waited when its own client rolled back. */
export function rolledBackBefore (): Error {
  return pgScopeError('FST_PG_SCOPE_TRANSACTION_ABORTED', 'A library has rolled back its transaction while this call ' +
    'waited to be sent.')
}

export function unfinishedError (): Error {
  return pgScopeError('FST_PG_SCOPE_TRANSACTION_ABORTED', 'A transaction that a library has begun was neither ' +
    'committed nor rolled back before commit() or the end of its session, whose work is not kept. Await it.')
}

export function undoneBeside (): Error {
  return pgScopeError('FST_PG_SCOPE_TRANSACTION_ABORTED', 'The rollback of a library\'s transaction has undone ' +
    'another one, which had committed, and was begun beside it on the same session: the session is rolled back. ' +
    'Begin such transactions one after the other, or use one for both.')
}

export function calledInFn (command: string): Error {
  return pgScopeError('FST_PG_SCOPE_SESSION_STATE', `${command} was sent in fn of a transaction(fn) that was opened ` +
    'inside of the library\'s transaction. Let fn settle first.')
}

export function noSavepoint (): Error {
  return pgScopeError('FST_PG_SCOPE_SESSION_STATE',
    'RELEASE or ROLLBACK TO named a savepoint that does not exist, or has been released or rolled back.')
}
