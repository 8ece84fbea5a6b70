import { pgScopeError } from '../errors.ts'
import { isPromiseLike, kindOf } from '../kind-of.ts'

/** What is known about a request when its response is about to be sent. */
export interface Ending {
  readonly status: number
  /** An error was thrown, even if a custom error handler answered with a success. */
  readonly thrown: boolean
  /** A statement failed, and the transaction with it. */
  readonly failed: boolean
  /** setRollbackOnly() was called. */
  readonly rollbackOnly: boolean
}

/** `refuse`: roll back, and send an error instead of the success. */
export type RequestOutcome = 'commit' | 'rollback' | 'refuse'

/**
 * Decides the outcome of a request.
 *
 * @param commitIf calls the user's `commitIf`, if there is one; called only if its result decides
 * @returns a promise if `commitIf` returned one
 * @throws what `commitIf` throws, and FST_PG_SCOPE_OPTIONS if its result is not a boolean; rejects if it returned a
 * promise
 */
export function outcomeOf (
  { status, thrown, failed, rollbackOnly }: Ending, commitIf?: () => unknown
): RequestOutcome | PromiseLike<RequestOutcome> {
  const success = status < 400
  if (rollbackOnly) return 'rollback'
  if (thrown && success) return 'rollback'
  if (failed) return success ? 'refuse' : 'rollback'
  if (commitIf === undefined) return decided(success)
  const answer = commitIf()
  return isPromiseLike(answer) ? answer.then(decided) : decided(answer)
}

function decided (commits: unknown): RequestOutcome {
  if (typeof commits !== 'boolean') {
    throw pgScopeError('FST_PG_SCOPE_OPTIONS', '`commitIf(request, reply)` must return true or false, ' +
      `or a promise of one, got ${kindOf(commits)}: the work is rolled back.`)
  }
  return commits ? 'commit' : 'rollback'
}
