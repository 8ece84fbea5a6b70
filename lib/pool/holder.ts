import { AsyncLocalStorage } from 'node:async_hooks'

/** Whoever may hold a connection for longer than one statement. */
export interface Holder {
  /** It holds none any more, and will take none. */
  readonly over: boolean
}

/** Work that may hold a connection, and the work around it. */
export interface Within {
  readonly holder: Holder
  readonly within: Within | null
}

/** Sessions of requests, and the engine of each. */
const requests = new WeakMap<Holder, object>()

const holders = new AsyncLocalStorage<Within | null>()

/** The work that the running code stands in, innermost first. */
export function currentWork (): Within | null {
  let work = holders.getStore() ?? null
  // Node hands the context of one request on to the next one of the same socket: what is over there is forgotten.
  while (work !== null && work.holder.over) work = work.within
  return work
}

/** What runs from here on is nobody's work: up to Node 22 the context of a request is handed on to the next one of its socket. */
export function leaveWork (): void {
  if (holders.getStore() != null) holders.enterWith(null)
}

/** Runs fn as the work of a holder. */
export function asWorkOf<T> (holder: Holder, fn: () => T): T {
  return holders.run({ holder, within: currentWork() }, fn)
}

/**
 * A request touches its session. Whatever other request's work it seems to stand in is none of its own: of requests that come
 * behind each other on one socket, without waiting for answers, Node hands the context of the first on to the next.
 */
export function beginRequest (holder: Holder, engine: object): void {
  requests.set(holder, engine)
  for (let work = currentWork(); work !== null; work = work.within) {
    if (requests.get(work.holder) === engine) return holders.enterWith(null)
  }
}

/**
 * From here on the running code, and what it awaits, is the work of a request's session, which has no function to be run in.
 * Others are not entered: a handler may have several streams side by side, each with a session of its own.
 */
export function enterWorkOf (holder: Holder): void {
  if (!requests.has(holder)) return
  const within = currentWork()
  // With a second engine's session in between it may stand further out.
  for (let work = within; work !== null; work = work.within) if (work.holder === holder) return
  holders.enterWith({ holder, within })
}
