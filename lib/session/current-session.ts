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

/**
 * Up to Node 22, async contexts slow down every promise of the process: a request that reads one row takes 1/7
 * longer.
 */
const isCostly = Number(process.versions.node.split('.')[0]) < 24

/** Requests are not followed after this many of them in which current() was never called. */
const trial = 1000

let requests = 0
/** current() was called: requests are followed for good. */
let isUsed = false
/** Running functions of scope() and transaction(fn). */
let running = 0

function isFollowed (): boolean {
  if (!isCostly || isUsed || ++requests <= trial) return true
  if (requests % trial === 1 && running === 0) places.disable()
  return false
}

/** Runs a function as part of a request. */
export type RunInRequest = (fn: () => unknown) => unknown

/**
 * A request begins.
 *
 * @param session makes the session of the request when it is first used
 * @returns null if requests are not followed
 */
export function followRequest (engine: object, session: () => Session | null): RunInRequest | null {
  if (!isFollowed()) return null
  let around = places.getStore()
  // Node passes the context of a request on to the next one of the same socket.
  while (around?.engine === engine) around = around.around
  const place = { engine, session, around }
  return (fn) => places.run(place, fn)
}

/** Runs a function as part of scope(fn) or transaction(fn). */
export async function runInSession<T> (engine: object, session: Session, fn: () => Promise<T> | T): Promise<T> {
  running++
  try {
    return await places.run({ engine, session: () => session, around: places.getStore() }, fn)
  } finally {
    running--
  }
}

/** The session that the running code belongs to, or null. */
export function currentSession (engine: object): Session | null {
  isUsed = true
  let place = places.getStore()
  while (place !== undefined && place.engine !== engine) place = place.around
  return place === undefined ? null : place.session()
}
