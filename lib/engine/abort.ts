import { pgScopeError } from '../errors.ts'
import { whenOver } from '../one-listener.ts'
import { conflictIn } from '../postgres/sqlstate.ts'
import type { ManagedSession } from '../session/managed-session.ts'
import type { Retries } from './retries.ts'

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

/**
 * Waits before the next attempt of a scope().
 *
 * @param error what the attempt has failed with
 * @param failure the failure of its transaction
 * @throws why no further attempt is made
 */
export async function delayUnlessAborted (
  retries: Retries, error: unknown, failure: Error | null, signal: AbortSignal | undefined
): Promise<void> {
  const throwIfAborted = (): void => {
    if (signal?.aborted === true) throw abortedError(signal)
  }
  throwIfAborted()
  let removeListener = (): void => {}
  const elapsed = await retries.delay(conflictIn(error) === null ? failure : error, (stop) => {
    if (signal !== undefined) removeListener = whenOver(signal, stop)
  })
  removeListener()
  throwIfAborted()
  if (!elapsed) throw retries.explain(error, retries.limit ?? 'the app is closing')
}
