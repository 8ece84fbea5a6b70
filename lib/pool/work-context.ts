// Which work the running code belongs to, so that the pool can tell whether a waiter blocks work that holds a
// connection.
import { RequestContext } from '../request-context.ts'

/** A session, scope or lease(fn): it may hold a connection for longer than one statement. */
export interface ConnectionOwner {
  /** It holds no connection and will not request one. */
  readonly isClosed: boolean
  /** The engine, if the owner is the session of a request. */
  readonly requestOf?: object | null
  /** It is ending its transaction, and awaits nothing else before it returns its connection. */
  readonly settling?: boolean
}

/** Work that may hold a connection, and the work around it. */
export interface WorkContext {
  readonly owner: ConnectionOwner
  readonly parent: WorkContext | null
  /** True while nothing awaits the work, so that it does not block its parent. Left out if that cannot be known. */
  readonly unawaited?: () => boolean
}

/** Needed once a request may have requested a second connection. */
const contexts = new RequestContext<WorkContext | null>()

let engines = 0

/** An engine was opened or closed. With two engines, a request may hold a connection of each. */
export function countEngine (change: 1 | -1): void {
  engines += change
  if (engines === 1 && change === 1) contexts.restart()
}

/**
 * A connection was requested outside of request sessions while such sessions hold some, so one of them may have
 * requested it.
 */
export function askedBeside (): void {
  contexts.needed()
}

/** The innermost work that the running code belongs to. */
export function currentWork (): WorkContext | null {
  let work = contexts.current ?? null
  // Node passes the context of a request on to the next request of the same socket, so closed owners are skipped.
  while (work !== null && work.owner.isClosed) work = work.parent
  return work
}

/** Runs fn as the work of an owner. */
export function asWorkOf<T> (
  owner: ConnectionOwner,
  fn: () => Promise<T> | T,
  unawaited?: () => boolean
): Promise<T> {
  return contexts.runWork({ owner, parent: currentWork(), ...(unawaited && { unawaited }) }, fn)
}

/**
 * A request starts to use its session. If the context belongs to another request, it is cleared: Node passes the
 * context of a pipelined request on to the next request of the same socket.
 */
export function beginRequest (engine: object): void {
  for (let work = currentWork(); work !== null; work = work.parent) {
    if (work.owner.requestOf === engine) return contexts.enter(null)
  }
}

/**
 * Makes the running code, and what it awaits, the work of a request's session, which has no function to run in.
 * Where contexts are costly, they are disabled after a while if requests use one connection each, and enabled again
 * by the first request for a second one.
 */
export function enterWorkOf (owner: ConnectionOwner): void {
  if (engines <= 1 && !contexts.follows()) return
  const parent = currentWork()
  // With a second engine's session in between, it may be further out.
  for (let work = parent; work !== null; work = work.parent) if (work.owner === owner) return
  contexts.enter({ owner, parent })
}
