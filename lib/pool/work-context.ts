// Which work the running code belongs to, so that the pool can tell whether a waiter blocks work that holds a
// connection.
import { AsyncLocalStorage } from 'node:async_hooks'

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

const contexts = new AsyncLocalStorage<WorkContext | null>()

/** The innermost work that the running code belongs to. */
export function currentWork (): WorkContext | null {
  let work = contexts.getStore() ?? null
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
  return contexts.run({ owner, parent: currentWork(), ...(unawaited && { unawaited }) }, async () => fn())
}

/**
 * A request starts to use its session. If the context belongs to another request, it is cleared: Node passes the
 * context of a pipelined request on to the next request of the same socket.
 */
export function beginRequest (engine: object): void {
  for (let work = currentWork(); work !== null; work = work.parent) {
    if (work.owner.requestOf === engine) return contexts.enterWith(null)
  }
}

/**
 * Makes the running code, and what it awaits, the work of a request's session, which has no function to run in.
 */
export function enterWorkOf (owner: ConnectionOwner): void {
  const parent = currentWork()
  // With a second engine's session in between, it may be further out.
  for (let work = parent; work !== null; work = work.parent) if (work.owner === owner) return
  contexts.enterWith({ owner, parent })
}
