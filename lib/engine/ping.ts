import { optionsError } from '../config/option-rules.ts'
import type { SessionConfig } from '../config/session-config.ts'
import { pgScopeError } from '../errors.ts'
import type { Pool } from '../pool/pool.ts'
import { nameOf, type Target } from '../postgres/target.ts'
import { AutocommitSession } from '../session/autocommit-session.ts'
import type { SessionHost } from '../session/managed-session.ts'

/**
 * Runs SELECT 1 in a session of its own.
 *
 * @param max the limit of the pool, for the error
 * @param timeout in milliseconds
 * @returns the duration in milliseconds
 * @throws FST_PG_SCOPE_POOL_EXHAUSTED or FST_PG_SCOPE_UNREACHABLE after the timeout
 */
export async function ping (
  host: SessionHost, config: SessionConfig, target: Target, max: number, timeout: number
): Promise<number> {
  const start = performance.now()
  // The engine does not track this session: close() need not wait for it.
  const ownHost: SessionHost = { ...host, replicas: null, ended: () => {} }
  const session = new AutocommitSession(ownHost, config.singleStatement, config.transaction)
  const answer = session.query('SELECT 1')
  let timer: NodeJS.Timeout | undefined
  const timedOut = new Promise((_resolve, reject) => {
    timer = setTimeout(() => reject(timeoutError(host.pool, target, max, timeout)), timeout)
  })
  try {
    await Promise.race([answer, timedOut])
    return performance.now() - start
  } finally {
    clearTimeout(timer)
    session.end('rollback', pgScopeError('FST_PG_SCOPE_CANCELED', 'The timeout of ping() has elapsed.'))
  }
}

/** @throws FST_PG_SCOPE_OPTIONS */
export function checkPingTimeout (timeout: unknown): void {
  if (!Number.isInteger(timeout) || (timeout as number) < 1) {
    throw optionsError('timeout', 'an integer ≥ 1 (milliseconds)', timeout)
  }
}

function timeoutError (pool: Pool, target: Target, max: number, timeout: number): Error {
  const { waiting, inUse } = pool.stats()
  if (waiting > 0 && inUse >= max) {
    const details = `ping() did not get a connection within ${timeout} ms: all ${max} are in use.`
    return pgScopeError('FST_PG_SCOPE_POOL_EXHAUSTED', details)
  }
  return pgScopeError('FST_PG_SCOPE_UNREACHABLE', `${nameOf(target)} did not answer within ${timeout} ms.`)
}
