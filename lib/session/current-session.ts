// Which session the running code belongs to, for `app.db.current()`.
import { RequestContext } from '../request-context.ts'
import type { Session } from '../../types/session.ts'

/** A request, scope(fn) or transaction(fn), and what is around it. */
interface Place {
  /** The pool stands for the engine. */
  readonly engine: object
  /** Null if the request is over and was collected. */
  readonly session: () => Session | null
  readonly around: Place | undefined
}

const places = new RequestContext<Place>()

/** Runs a function as part of a request. */
export type RunInRequest = (fn: () => unknown) => unknown

/**
 * A request begins.
 *
 * @param session makes the session of the request when it is first used
 * @returns null if requests are not followed
 */
export function followRequest (engine: object, session: () => Session | null): RunInRequest | null {
  if (!places.follows()) return null
  let around = places.current
  // Node passes the context of a request on to the next one of the same socket.
  while (around?.engine === engine) around = around.around
  const place = { engine, session, around }
  return (fn) => places.run(place, fn)
}

/** Runs a function as part of scope(fn) or transaction(fn). */
export function runInSession<T> (engine: object, session: Session, fn: () => Promise<T> | T): Promise<T> {
  return places.runWork({ engine, session: () => session, around: places.current }, fn)
}

/** The session that the running code belongs to, or null. */
export function currentSession (engine: object): Session | null {
  places.needed()
  let place = places.current
  while (place !== undefined && place.engine !== engine) place = place.around
  return place === undefined ? null : place.session()
}
