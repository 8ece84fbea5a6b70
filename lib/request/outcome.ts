import { pgScopeError } from '../errors.ts'
import { isPromiseLike, kindOf } from '../kind-of.ts'

/** What is known of a request when its answer is about to be sent. */
export interface Ending {
  readonly status: number
  /** An error was thrown, whatever a custom error handler made of it. */
  readonly thrown: boolean
  /** A statement failed, and the transaction with it. */
  readonly failed: boolean
  /** setRollbackOnly() was called. */
  readonly rollbackOnly: boolean
}

/** `refuse`: roll back, and send an error in place of the success that cannot be kept. */
export type RequestOutcome = 'commit' | 'rollback' | 'refuse'

/**
 * @param commitIf what the user's rule says, where there is one; it is asked only where it may decide
 * @returns a promise where the rule returned one
 * @throws what the rule throws, and FST_PG_SCOPE_OPTIONS where it says neither true nor false; as a rejection of the promise, if there is one
 */
export function outcomeOf ({ status, thrown, failed, rollbackOnly }: Ending, commitIf?: () => unknown): RequestOutcome | PromiseLike<RequestOutcome> {
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
    throw pgScopeError('FST_PG_SCOPE_OPTIONS', `\`commitIf(request, reply)\` must return true or false, or a promise of one, got ${kindOf(commits)}: the work is rolled back.`)
  }
  return commits ? 'commit' : 'rollback'
}
