// In which transaction(fn) of an autocommit session the running code was called.
import { AsyncLocalStorage } from 'node:async_hooks'
import type { Home } from './clients/client-turns.ts'
import type { Fate } from './savepoint.ts'
import type { ScopedSession } from './scoped-session.ts'

export interface Inside {
  /** The transactions of its autocommit session. */
  readonly owner: object
  readonly session: ScopedSession
  readonly enclosing: Inside | undefined
  /** Why it was rolled back, or null: work that fn did not await has no transaction to belong to. */
  undone: { readonly error: unknown } | null
}

const inside = new AsyncLocalStorage<Inside>()

/** @param session of the transaction(fn) that begins */
export function enterInside (owner: object, session: ScopedSession): Inside {
  return { owner, session, enclosing: inside.getStore(), undone: null }
}

export function runInside<A extends unknown[], T> (place: Inside, fn: (...args: A) => T, ...args: A): T {
  return inside.run(place, fn, ...args)
}

/** The innermost transaction(fn) of this owner, or null. */
function innermost (owner: object): Inside | null {
  let found = inside.getStore()
  // Work that a committed transaction(fn) left behind is independent of it. After a rollback it is rejected.
  while (found !== undefined && (found.owner !== owner || (found.session.isEnding && found.undone === null))) {
    found = found.enclosing
  }
  return found ?? null
}

/** The session of the innermost transaction(fn) of this owner, or null. */
export function sessionInside (owner: object): ScopedSession | null {
  return innermost(owner)?.session ?? null
}

/** What becomes of the transaction(fn) of this owner in which the running code was called, or null if it is in none. */
export function fateInside (owner: object): Fate | null {
  let place = inside.getStore()
  // One that has ended, too: what it has called may have waited since.
  while (place !== undefined && place.owner !== owner) place = place.enclosing
  if (place === undefined) return null
  const nested = place.session.savepointCalls.fateOfCaller()
  return () => place.undone ?? nested?.() ?? null
}

/** Runs code where the running code runs, even if it has lost this context. */
export function homeInside (): Home | undefined {
  const place = inside.getStore()
  return place && { run: (fn) => inside.run(place, fn) }
}
