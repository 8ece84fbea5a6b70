import type { HangUpTime, HttpRequest } from '../http-client.ts'

/** One kind of request, and how it has to end. */
export interface Kind {
  name: string
  /** How many of a hundred. */
  share: number
  path: string
  method: 'GET' | 'POST'
  body?: object
  /** The status that its client has to read. Left out: it hangs up first. */
  status?: number
  hangUp?: { after: HangUpTime, reset: boolean }
  /** It writes its number, so that a success has to be found afterwards. */
  writes: boolean
}

export const kinds: Kind[] = [
  { name: 'write', share: 38, method: 'POST', path: '/write', status: 201, writes: true },
  { name: 'read only', share: 10, method: 'GET', path: '/read', status: 200, writes: false },
  { name: 'statements at once', share: 6, method: 'POST', path: '/together', status: 201, writes: true },
  { name: 'savepoints', share: 7, method: 'POST', path: '/savepoints', status: 201, writes: true },
  { name: 'rows as a stream', share: 5, method: 'GET', path: '/rows', status: 200, writes: false },
  { name: 'database untouched', share: 3, method: 'GET', path: '/untouched', status: 200, writes: false },
  { name: 'throw', share: 7, method: 'POST', path: '/throw', status: 500, writes: true },
  { name: 'error status', share: 6, method: 'POST', path: '/error-status', status: 422, writes: true },
  { name: 'SQL error', share: 6, method: 'POST', path: '/sql-error', status: 500, writes: true },
  { name: 'SQL error swallowed', share: 3, method: 'POST', path: '/swallowed', status: 500, writes: true },
  { name: 'COMMIT fails', share: 3, method: 'POST', path: '/deferred', status: 409, writes: true },
  { name: 'handlerTimeout', share: 2, method: 'GET', path: '/timeout', status: 503, writes: true },
  // Hung up while waiting for a connection, or for the statement: whichever it has come to.
  { name: 'hang-up, GET', share: 1, method: 'GET', path: '/slow', hangUp: { after: 20, reset: false }, writes: true },
  { name: 'hang-up, POST with a body', share: 1, method: 'POST', path: '/slow', body: { amount: 1 }, hangUp: { after: 15, reset: true }, writes: true },
  { name: 'hang-up at once', share: 1, method: 'POST', path: '/write', hangUp: { after: 1, reset: false }, writes: true },
  { name: 'hang-up in a stream', share: 1, method: 'GET', path: '/many-rows', hangUp: { after: { bytes: 50_000 }, reset: true }, writes: false }
]

const deck = kinds.flatMap((kind) => Array.from({ length: kind.share }, () => kind))

/** The same mix in every run, and no kind in a lump: 37 has no divisor in common with 100. */
export function kindOf (n: number): Kind {
  return deck[(n * 37) % deck.length]!
}

export function requestOf ({ method, path, body }: Kind, n: number): HttpRequest {
  return { method, path: `${path}?n=${n}`, ...(body && { body }) }
}
