// What a query builder runs on, and how its transactions begin there. Shared by the subpath exports.
import type { Engine } from '../types/engine.ts'
import type { IsolationLevel } from '../types/options.ts'
import type { Session } from '../types/session.ts'
import { pgScopeError } from './errors.ts'
import { kindOf } from './kind-of.ts'

/** A session, an engine, or a function that is called for each statement and transaction and returns one of them. */
export type LibrarySource = Session | Engine | (() => Session | Engine)

/** What a library asks for when it begins a transaction. */
export interface TransactionModes {
  isolation?: IsolationLevel | undefined
  readOnly?: boolean | undefined
  deferrable?: boolean | undefined
}

const levels: readonly unknown[] = ['read uncommitted', 'read committed', 'repeatable read', 'serializable']

/**
 * @param api the function of the subpath, for the message
 * @throws FST_PG_SCOPE_QUERY_INVALID
 */
export function checkSource (source: unknown, api: string): void {
  if (typeof source === 'function') return
  if (typeof source === 'object' && source !== null && 'query' in source &&
    ('scope' in source || 'transaction' in source)) return
  throw pgScopeError('FST_PG_SCOPE_QUERY_INVALID', `\`${api}\` takes a session (request.db), an engine (app.db) or a ` +
    `function that returns one of them, got ${kindOf(source)}.`)
}

export function targetOf (source: LibrarySource): Session | Engine {
  return typeof source === 'function' ? source() : source
}

export function isEngine (target: Session | Engine): target is Engine {
  return 'scope' in target
}

/** Runs fn in a nested transaction of the session, or in a scope of the engine. */
export function runTransaction<T> (
  source: LibrarySource, modes: TransactionModes, fn: (session: Session) => Promise<T> | T
): Promise<T> {
  let target: Session | Engine
  let first: string | null
  try {
    target = targetOf(source)
    if (isEngine(target)) return target.scope(fn, checkedModes(modes))
    first = modeStatement(target, modes)
  } catch (error) {
    return Promise.reject(error)
  }
  // Their promises are returned as they are: the session notices a failure that no caller awaits.
  if (first === null) return target.transaction(fn)
  if (target.mode === 'autocommit') {
    return target.transaction(async (session) => {
      await session.query(first)
      return fn(session)
    })
  }
  // A failure is reported by the statements after it.
  target.query(first).catch(() => {})
  return target.transaction(fn)
}

/**
 * SET TRANSACTION for a session, which must be its first statement
 * (https://www.postgresql.org/docs/current/sql-set-transaction.html), or null if nothing was asked for.
 *
 * @throws FST_PG_SCOPE_SESSION_STATE when the session's transaction has begun
 */
export function modeStatement (session: Session, modes: TransactionModes): string | null {
  const { isolation, readOnly, deferrable } = checkedModes(modes)
  const words = [
    isolation === undefined ? '' : `ISOLATION LEVEL ${isolation.toUpperCase()}`,
    readOnly === undefined ? '' : readOnly ? 'READ ONLY' : 'READ WRITE',
    deferrable === undefined ? '' : deferrable ? 'DEFERRABLE' : 'NOT DEFERRABLE'
  ].filter((word) => word !== '')
  if (words.length === 0) return null
  if (session.state !== 'idle') {
    throw pgScopeError('FST_PG_SCOPE_SESSION_STATE', `A nested transaction cannot be ${words.join(', ')}: the ` +
      'transaction of the session has begun, and PostgreSQL accepts this only before its first statement. Set ' +
      '`isolation` and `readOnly` in the options of the route or of app.db.scope(), or begin this transaction first.')
  }
  return `SET TRANSACTION ${words.join(' ')}`
}

/** @throws FST_PG_SCOPE_QUERY_INVALID for an isolation level that PostgreSQL does not have */
function checkedModes (modes: TransactionModes): TransactionModes {
  if (modes.isolation !== undefined && !levels.includes(modes.isolation)) {
    throw pgScopeError('FST_PG_SCOPE_QUERY_INVALID', 'PostgreSQL does not have this isolation level: use ' +
      `${levels.join(', ')}.`)
  }
  return modes
}
