// What a query builder runs on, and how its transactions begin there. Shared by the subpath exports.
import type { Engine } from '../types/engine.ts'
import type { IsolationLevel } from '../types/options.ts'
import type { Savepoint, Session } from '../types/session.ts'
import { isPgScopeError, pgScopeError } from './errors.ts'
import { kindOf } from './kind-of.ts'

/** A session, an engine, or a function that is called for each statement and transaction and returns one of them. */
export type LibrarySource = Session | Engine | (() => Session | Engine)

/** What a library asks for when it begins a transaction. */
export interface TransactionModes {
  isolation?: IsolationLevel | undefined
  readOnly?: boolean | undefined
  deferrable?: boolean | undefined
}

const noop = (): void => {}

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

/** The session that the running code belongs to, or null. */
export function currentSessionOf (engine: Engine): Session | null {
  try {
    return engine.current()
  } catch (error) {
    if (isPgScopeError(error) && error.code === 'FST_PG_SCOPE_NO_SESSION') return null
    throw error
  }
}

export function isEngine (target: Session | Engine): target is Engine {
  return 'scope' in target
}

/** Runs fn in a nested transaction of the session, or in a scope of the engine. */
export function runTransaction<T> (
  source: LibrarySource, modes: TransactionModes, fn: (session: Session) => Promise<T> | T
): Promise<T> {
  let target: Session | Engine
  let statements: ModeStatements
  try {
    target = targetOf(source)
    if (isEngine(target)) return target.scope(fn, { ...checkedModes(modes), mode: 'transaction' })
    statements = modeStatements(target, modes)
  } catch (error) {
    return Promise.reject(error)
  }
  const { before, inside } = statements
  // Their promises are returned as they are: the session notices a failure that no caller awaits. A failure of the
  // modes is reported by the statements after them.
  if (before !== null) target.query(before).catch(noop)
  if (inside === null) return target.transaction(fn)
  return target.transaction((session) => {
    session.query(inside).catch(noop)
    return fn(session)
  })
}

/** Begins a transaction inside the session's, which its caller ends: a savepoint. */
export async function beginSavepoint (session: Session, modes: TransactionModes): Promise<Savepoint> {
  const { before, inside } = modeStatements(session, modes)
  if (before !== null) session.query(before).catch(noop)
  const savepoint = await session.savepoint()
  if (inside !== null) session.query(inside).catch(noop)
  return savepoint
}

/** What sets the modes of a transaction inside the session's, before and after its SAVEPOINT. */
interface ModeStatements {
  readonly before: string | null
  readonly inside: string | null
}

/**
 * SET TRANSACTION for a transaction inside the session's
 * (https://www.postgresql.org/docs/current/sql-set-transaction.html). The isolation must be set by the session's first
 * statement, for all of its transaction. READ ONLY may be set inside a savepoint, and ends with it.
 *
 * @throws FST_PG_SCOPE_SESSION_STATE when the session's transaction has begun
 */
export function modeStatements (session: Session, modes: TransactionModes): ModeStatements {
  const { isolation, readOnly, deferrable } = checkedModes(modes)
  const isIdle = session.state === 'idle'
  // Outside of a transaction, in mode 'autocommit', the savepoint is a transaction of its own.
  if (session.mode === 'autocommit' && isIdle) return { before: null, inside: setTransaction(modes) }
  // Without READ ONLY, or after a query, DEFERRABLE has no effect. Back to READ WRITE needs an unused transaction.
  const goesFirst = deferrable === true || (readOnly === false && isIdle)
  const before = setTransaction({ isolation, deferrable, readOnly: goesFirst ? readOnly : undefined })
  if (before !== null && !isIdle) {
    throw pgScopeError('FST_PG_SCOPE_SESSION_STATE', `A nested transaction cannot be ${modeWords(modes)}: the ` +
      'transaction of the session has begun, and PostgreSQL accepts this only before its first statement. Set ' +
      '`isolation` and `readOnly` in the options of the route or of app.db.scope(), or begin this transaction first.')
  }
  return { before, inside: goesFirst ? null : setTransaction({ readOnly }) }
}

function setTransaction (modes: TransactionModes): string | null {
  const words = modeWords(modes)
  return words === '' ? null : `SET TRANSACTION ${words}`
}

function modeWords ({ isolation, readOnly, deferrable }: TransactionModes): string {
  return [
    isolation === undefined ? '' : `ISOLATION LEVEL ${isolation.toUpperCase()}`,
    readOnly === undefined ? '' : readOnly ? 'READ ONLY' : 'READ WRITE',
    deferrable === undefined ? '' : deferrable ? 'DEFERRABLE' : 'NOT DEFERRABLE'
  ].filter((word) => word !== '').join(', ')
}

/** @throws FST_PG_SCOPE_QUERY_INVALID for an isolation level that PostgreSQL does not have */
function checkedModes (modes: TransactionModes): TransactionModes {
  if (modes.isolation !== undefined && !levels.includes(modes.isolation)) {
    throw pgScopeError('FST_PG_SCOPE_QUERY_INVALID', 'PostgreSQL does not have this isolation level: use ' +
      `${levels.join(', ')}.`)
  }
  return modes
}
