import { pgScopeError } from '../errors.ts'

export function exhaustedError (max: number, waiting: number, acquireTimeout: number, cause: unknown): Error {
  return pgScopeError('FST_PG_SCOPE_POOL_EXHAUSTED', `No connection came free within ${acquireTimeout} ms (pool.acquireTimeout): all ${max} are in use and ${waiting} more sessions wait. Look for transactions that stay open while their handler does something else, raise pool.max, or set pool.maxWaiting to refuse earlier.`, cause)
}

export function queueFullError (max: number, inUse: number, waiting: number): Error {
  return pgScopeError('FST_PG_SCOPE_POOL_QUEUE_FULL', `${inUse} of ${max} connections are in use and ${waiting} sessions wait already (pool.maxWaiting). Try again later, or raise pool.max or pool.maxWaiting.`)
}

/** @param wait how long it would be, in milliseconds */
export function queueTooSlowError (max: number, waiting: number, wait: number, acquireTimeout: number): Error {
  return pgScopeError('FST_PG_SCOPE_POOL_QUEUE_FULL', `All ${max} connections are in use and ${waiting} sessions wait already: at the rate of the moment the wait would be ${Math.round(wait)} ms, longer than pool.acquireTimeout (${acquireTimeout} ms). Try again later, or raise pool.max.`)
}

export function deadlockError (max: number): Error {
  return pgScopeError('FST_PG_SCOPE_POOL_DEADLOCK', `All ${max} connections are held by work that waits for a second one, so that none would ever come free. Do the inner work in the session that is open already (request.db, or the session that scope(fn) was given), or raise pool.max above the number of requests that need two.`)
}

export function closedError (): Error {
  return pgScopeError('FST_PG_SCOPE_CLOSED', 'The engine is closed: it takes no more work.')
}
