// Which session the running code belongs to, for `app.db.current()`.
import { AsyncLocalStorage } from 'node:async_hooks'
import { pgScopeError } from '../errors.ts'
import type { Writer } from '../exchange/written-position.ts'
import type { Session } from '../../types/session.ts'

/** A request, scope(fn) or transaction(fn), and what is around it. */
interface Place {
  /** The pool stands for the engine. */
  readonly engine: object
  /** Null if the request is over and was collected. */
  readonly session: () => Session | null
  /** What learns where code of this place has written by itself; null if no replica needs to know. */
  readonly writer: Writer | null
  readonly around: Place | undefined
}

const places = new AsyncLocalStorage<Place>()

/** Runs a function as part of a request. */
export type RunInRequest = (fn: () => unknown) => unknown

/**
 * A request begins.
 *
 * @param session makes the session of the request when it is first used
 * @param writer learns where the request has written
 */
export function followRequest (engine: object, session: () => Session | null, writer: Writer | null): RunInRequest {
  let around = places.getStore()
  // Node passes the context of a request on to the next one of the same socket.
  while (around?.engine === engine) around = around.around
  const place = { engine, session, writer, around }
  return (fn) => places.run(place, fn)
}

/** Runs a function as part of scope(fn) or transaction(fn). */
export function runInSession<T> (
  engine: object, session: Session & WritingSession, fn: () => Promise<T> | T
): Promise<T> {
  const place = { engine, session: () => session, writer: session[writer], around: places.getStore() }
  return places.run(place, async () => fn())
}

function currentPlace (engine: object): Place | undefined {
  let place = places.getStore()
  while (place !== undefined && place.engine !== engine) place = place.around
  return place
}

/** The session that the running code belongs to, or null. */
export function currentSession (engine: object): Session | null {
  return currentPlace(engine)?.session() ?? null
}

/** What learns where the work of a session is written: the session that its methods lead to. */
export const writer: unique symbol = Symbol('fastify-pg-scope.writer')

/** Every session of this package. */
export interface WritingSession {
  readonly [writer]: Writer
}

/** The writer of the request or session that the running code belongs to, or null. It opens no session. */
export function currentWriter (engine: object): Writer | null {
  return currentPlace(engine)?.writer ?? null
}

/** @throws FST_PG_SCOPE_NO_SESSION */
export function requireSession (engine: object): Session {
  const session = currentSession(engine)
  if (session !== null) return session
  throw pgScopeError('FST_PG_SCOPE_NO_SESSION', 'current() was called outside of a request, a scope(fn) and a ' +
    'transaction(fn) of this engine, or by code that has lost its async context, such as a worker or a timer that ' +
    'was started elsewhere. Pass the session on, or use app.db.scope(fn) or app.db.query().')
}
