import { pgScopeError } from '../errors.ts'
import { whenOver } from '../one-listener.ts'
import type { ManagedSession } from '../session/managed-session.ts'

/** Rolls the session back when the signal is aborted. */
export function endOnAbort (session: ManagedSession, signal: AbortSignal): void {
  const abort = (): void => {
    session.end('rollback', abortedError(signal)).catch(() => {})
  }
  if (signal.aborted) return abort()
  const removeListener = whenOver(signal, abort)
  session.signal.addEventListener('abort', removeListener, { once: true })
}

/** The error of a session whose signal was aborted. */
export function abortedError (signal: AbortSignal): Error {
  return pgScopeError('FST_PG_SCOPE_CANCELED', 'The signal of this session was aborted: ' +
    'the running statement is canceled, and uncommitted work is rolled back.', signal.reason)
}
