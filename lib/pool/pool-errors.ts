import { pgScopeError } from '../errors.ts'
import type { PoolLimits } from './pool-limits.ts'

/** @param cause the last error of the server while the session waited */
export function exhaustedError (
  { max, acquireTimeout, note }: PoolLimits, waiting: number, cause: unknown
): Error {
  return pgScopeError('FST_PG_SCOPE_POOL_EXHAUSTED',
    `No connection became available within ${acquireTimeout} ms (pool.acquireTimeout): ` +
    `all ${max} are in use and ${waiting} more sessions wait. ` +
    'Look for transactions that stay open while their handler does something else' +
    (note === undefined ? ', raise pool.max, or set pool.maxWaiting to reject earlier.' : `. ${note}`), cause)
}

export function queueFullError (max: number, inUse: number, waiting: number): Error {
  return pgScopeError('FST_PG_SCOPE_POOL_QUEUE_FULL',
    `${inUse} of ${max} connections are in use and ${waiting} sessions already wait (pool.maxWaiting). ` +
    'Retry later, or raise pool.max or pool.maxWaiting.')
}

/** @param wait the expected wait, in milliseconds */
export function queueTooSlowError (max: number, waiting: number, wait: number, acquireTimeout: number): Error {
  return pgScopeError('FST_PG_SCOPE_POOL_QUEUE_FULL',
    `All ${max} connections are in use and ${waiting} sessions already wait: ` +
    `at the current rate the wait would be ${Math.round(wait)} ms, ` +
    `longer than pool.acquireTimeout (${acquireTimeout} ms). Retry later, or raise pool.max.`)
}

export function deadlockError ({ max, note }: PoolLimits): Error {
  return pgScopeError('FST_PG_SCOPE_POOL_DEADLOCK',
    `All ${max} connections are held by work that waits for a second one, so none would ever be returned. ` +
    'Do the inner work in the session that is already open (request.db, or the session passed to scope(fn))' +
    (note === undefined ? ', or raise pool.max above the number of requests that need two.' : `. ${note}`))
}

export function closedError (): Error {
  return pgScopeError('FST_PG_SCOPE_CLOSED', 'The engine is closed and accepts no more work.')
}
