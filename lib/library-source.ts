// What a query builder runs on, and how its transactions begin there. Shared by the subpath exports.
import type { Engine } from '../types/engine.ts'
import type { Savepoint, Session } from '../types/session.ts'
import { isPgScopeError, pgScopeError } from './errors.ts'
import { kindOf } from './kind-of.ts'
import { type ForLibraries, forLibraries, type LibrarySession } from './library-session.ts'
import {
  checkedModes, modesError, type ModeTexts, modeTexts, setTransaction, type TransactionModes
} from './transaction-modes.ts'

export type { TransactionModes } from './transaction-modes.ts'

/** A session, an engine, or a function that is called for each statement and transaction and returns one of them. */
export type LibrarySource = Session | Engine | (() => Session | Engine)

const noop = (): void => {}

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

/**
 * @param api the function of the subpath, for the message
 * @throws FST_PG_SCOPE_QUERY_INVALID
 */
export function checkEngine (engine: unknown, api: string): void {
  if (typeof engine === 'object' && engine !== null && isEngine(engine as Engine)) return
  throw pgScopeError('FST_PG_SCOPE_QUERY_INVALID', `\`${api}\` takes an engine (app.db), got ${kindOf(engine)}.`)
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

/** The session that the running code belongs to; the engine where there is none. */
export function currentOr (engine: Engine): Session | Engine {
  return currentSessionOf(engine) ?? engine
}

export function isEngine (target: Session | Engine): target is Engine {
  return 'scope' in target
}

/** What the session does for libraries. A session that a user has wrapped does nothing. */
export function librarySession (session: Session): ForLibraries | null {
  return (session as Session & Partial<LibrarySession>)[forLibraries] ?? null
}

/** Runs fn in a nested transaction of the session, or in a scope of the engine. */
export function runTransaction<T> (
  source: LibrarySource, modes: TransactionModes, fn: (session: Session) => Promise<T> | T
): Promise<T> {
  let target: Session | Engine
  let texts: ModeTexts
  try {
    target = targetOf(source)
    if (isEngine(target)) return target.scope(fn, { ...checkedModes(modes), mode: 'transaction' })
    texts = textsFor(target, modes)
  } catch (error) {
    return Promise.reject(error)
  }
  const { before, inside, isLate } = texts
  // Their promises are returned as they are: the session notices a failure that no caller awaits. A failure of the
  // modes is reported by the statements after them.
  if (before !== null) target.query(before).catch(noop)
  if (inside === null) return target.transaction(fn)
  if (isLate) return target.transaction((session) => setLate(session, inside, modes).then(() => fn(session)))
  return target.transaction((session) => {
    session.query(inside).catch(noop)
    return fn(session)
  })
}

/** Begins a transaction inside the session's, which its caller ends: a savepoint. */
export async function beginSavepoint (session: Session, modes: TransactionModes): Promise<Savepoint> {
  const { before, inside, isLate } = textsFor(session, modes)
  if (before !== null) session.query(before).catch(noop)
  const savepoint = await session.savepoint()
  if (inside === null) return savepoint
  const set = setLate(session, inside, modes)
  if (!isLate) set.catch(noop)
  else {
    await set.catch(async (error) => {
      await savepoint.rollback()
      throw error
    })
  }
  return savepoint
}

/** @throws FST_PG_SCOPE_QUERY_INVALID for an isolation level that PostgreSQL does not have */
function textsFor (session: Session, modes: TransactionModes): ModeTexts {
  const isIdle = session.state === 'idle'
  // Outside of a transaction, in mode 'autocommit', the savepoint is a transaction of its own.
  const isWhole = session.mode === 'autocommit' && isIdle
  if (isWhole) return { before: null, inside: setTransaction(checkedModes(modes)), isLate: false }
  return modeTexts(modes, librarySession(session)?.modes ?? {}, isIdle)
}

/** @throws FST_PG_SCOPE_SESSION_STATE when the session's transaction has begun with other modes */
async function setLate (session: Session, text: string, modes: TransactionModes): Promise<void> {
  try {
    await session.query(text)
  } catch (error) {
    throw modesError(error, modes)
  }
}
