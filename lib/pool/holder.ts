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

const holders = new AsyncLocalStorage<Within | null>()

/** The work that the running code stands in, innermost first. */
export function currentWork (): Within | null {
  let work = holders.getStore() ?? null
  // Node hands the context of one request on to the next one of the same socket: what is over there is forgotten.
  while (work !== null && work.holder.over) work = work.within
  return work
}

/** Runs fn as the work of a holder. */
export function asWorkOf<T> (holder: Holder, fn: () => T): T {
  return holders.run({ holder, within: currentWork() }, fn)
}

/** From here on the running code, and what it awaits, is the work of a holder: for one that has no function to be run in. */
export function enterWorkOf (holder: Holder): void {
  const within = currentWork()
  if (within?.holder !== holder) holders.enterWith({ holder, within })
}
