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

/** @param commitIf what the user's rule says, where there is one; it is asked only where it may decide */
export function outcomeOf ({ status, thrown, failed, rollbackOnly }: Ending, commitIf?: () => boolean): RequestOutcome {
  const success = status < 400
  if (rollbackOnly) return 'rollback'
  if (thrown && success) return 'rollback'
  if (failed) return success ? 'refuse' : 'rollback'
  return (commitIf === undefined ? success : commitIf()) ? 'commit' : 'rollback'
}
