import { AsyncLocalStorage } from 'node:async_hooks'

/** Whoever may hold a connection for longer than one statement. */
export interface ConnectionOwner {
  /** It holds none any more, and will take none. */
  readonly isClosed: boolean
  /** The engine, where it is the session of a request. */
  readonly requestOf?: object | null
  /** It is ending its transaction, and waits for nothing else before it gives its connection back. */
  readonly settling?: boolean
}

/** Work that may hold a connection, and the work around it. */
export interface WorkContext {
  readonly owner: ConnectionOwner
  readonly parent: WorkContext | null
  /** True while nothing awaits it, so that the work around it goes on. Left out where that cannot be known. */
  readonly unawaited?: () => boolean
}

const contexts = new AsyncLocalStorage<WorkContext | null>()

/** Up to Node 22 each promise of the process costs more while contexts are followed: a seventh of a request that reads one row. */
const costly = Number(process.versions.node.split('.')[0]) < 24

/** After so many sessions of requests during which nobody asked for a second connection, they are followed no longer. */
const enough = 1000

/** Sessions of requests since the start; -Infinity once somebody may have asked for a second connection. */
let alone = 0
let engines = 0
/** Functions of scope() and lease() that run: their contexts are kept. */
let works = 0

/** An engine more, or one less: with two of them a request may well hold a connection of each. */
export function countEngine (change: 1 | -1): void {
  engines += change
  if (engines === 1 && change === 1) alone = 0
}

/** A connection is asked for outside of requests' sessions while such sessions hold some: by one of them, perhaps. */
export function askedBeside (): void {
  alone = -Infinity
}

function follows (): boolean {
  if (!costly || engines > 1 || ++alone <= enough) return true
  if (alone % enough === 1 && works === 0) contexts.disable()
  return false
}

/** The work that the running code stands in, innermost first. */
export function currentWork (): WorkContext | null {
  let work = contexts.getStore() ?? null
  // Node hands the context of one request on to the next one of the same socket: what is over there is forgotten.
  while (work !== null && work.owner.isClosed) work = work.parent
  return work
}

/** Runs fn as the work of a holder. */
export async function asWorkOf<T> (holder: ConnectionOwner, fn: () => Promise<T> | T, unawaited?: () => boolean): Promise<T> {
  works++
  try {
    return await contexts.run({ owner: holder, parent: currentWork(), ...(unawaited && { unawaited }) }, fn)
  } finally {
    works--
  }
}

/**
 * A request touches its session. Whatever other request's work it seems to stand in is none of its own: of requests that come
 * behind each other on one socket, without waiting for answers, Node hands the context of the first on to the next.
 */
export function beginRequest (engine: object): void {
  for (let work = currentWork(); work !== null; work = work.parent) {
    if (work.owner.requestOf === engine) return contexts.enterWith(null)
  }
}

/**
 * From here on the running code, and what it awaits, is the work of a request's session, which has no function to be run in.
 * Where that is costly, it ends after a while with requests that ask for one connection only; the first that asks for another one
 * brings it back.
 */
export function enterWorkOf (holder: ConnectionOwner): void {
  if (!follows()) return
  const within = currentWork()
  // With a second engine's session in between it may stand further out.
  for (let work = within; work !== null; work = work.parent) if (work.owner === holder) return
  contexts.enterWith({ owner: holder, parent: within })
}
