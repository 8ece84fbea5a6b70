import { pgScopeError } from '../errors.ts'

const bound = /^\s*(?:un)?listen\b|\bpg_(?:try_)?advisory_(?:un)?lock/i

/**
 * Rejects what belongs to a connection where each statement may run on another one.
 *
 * @throws FST_PG_SCOPE_QUERY_INVALID
 */
export function checkUnbound ({ text }: { text?: unknown }): void {
  if (typeof text !== 'string' || !bound.test(text)) return
  throw pgScopeError('FST_PG_SCOPE_QUERY_INVALID', 'LISTEN and session advisory locks belong to a connection, and ' +
    'outside of a session and of BEGIN each statement runs on any connection of the pool. Use app.db.lease(fn), ' +
    'whose client is one of pg, or an advisory lock of a transaction.')
}
