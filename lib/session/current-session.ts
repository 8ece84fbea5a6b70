// Which session the running code belongs to, for `app.db.current()`.
import { AsyncLocalStorage } from 'node:async_hooks'
import type { Session } from '../../types/session.ts'

/** A request, scope(fn) or transaction(fn), and what is around it. */
interface Place {
  /** The pool stands for the engine. */
  readonly engine: object
  /** Null if the request is over and was collected. */
  readonly session: () => Session | null
  readonly around: Place | undefined
}

const places = new AsyncLocalStorage<Place>()

/** Runs a function as part of a request. */
export type RunInRequest = (fn: () => unknown) => unknown

/**
 * A request begins.
 *
 * @param session makes the session of the request when it is first used
 */
export function followRequest (engine: object, session: () => Session | null): RunInRequest {
  let around = places.getStore()
  // Node passes the context of a request on to the next one of the same socket.
  while (around?.engine === engine) around = around.around
  const place = { engine, session, around }
  return (fn) => places.run(place, fn)
}

/** Runs a function as part of scope(fn) or transaction(fn). */
export function runInSession<T> (engine: object, session: Session, fn: () => Promise<T> | T): Promise<T> {
  return places.run({ engine, session: () => session, around: places.getStore() }, async () => fn())
}

/** The session that the running code belongs to, or null. */
export function currentSession (engine: object): Session | null {
  let place = places.getStore()
  while (place !== undefined && place.engine !== engine) place = place.around
  return place === undefined ? null : place.session()
}
