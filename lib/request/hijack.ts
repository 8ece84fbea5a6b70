import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { letExit } from '../process-exit.ts'
import { endUnchanged } from '../session/resting-transaction.ts'
import type { ManagedSession } from '../session/managed-session.ts'

type Listener = (request: FastifyRequest, reply: FastifyReply) => void

const listenersKey = Symbol('fastify-pg-scope.hijack')

/** How often the session of a hijacked reply is checked for a transaction that rests. Milliseconds. */
const interval = 1000

/** Calls the listener for each reply that is hijacked. Fastify has no hook for it. */
export function onHijack (app: FastifyInstance, listener: Listener): void {
  const { [listenersKey]: listeners } = app as unknown as Record<symbol, Listener[] | undefined>
  if (listeners !== undefined) {
    listeners.push(listener)
    return
  }
  const all = [listener]
  app.decorate(listenersKey as unknown as string, all)
  app.decorateReply('hijack', function hijack (this: FastifyReply) {
    // This decorator hides the method of Fastify, or of an engine in an enclosing context.
    let owner = Object.getPrototypeOf(this)
    while (!Object.hasOwn(owner, 'hijack') || owner.hijack !== hijack) owner = Object.getPrototypeOf(owner)
    Object.getPrototypeOf(owner).hijack.call(this)
    for (const each of all) each(this.request, this)
    return this
  })
}

/** The reply was hijacked, and its response is not finished. */
export function isHijacked (reply: FastifyReply): boolean {
  return reply.sent && !reply.raw.writableEnded
}

/**
 * The request becomes another protocol, such as a WebSocket: Node has given its socket to the server's `upgrade`
 * listener (https://nodejs.org/api/http.html#event-upgrade_1). Requests without a socket say it in their headers.
 */
export function isUpgrade ({ raw }: FastifyRequest): boolean {
  const { upgrade } = raw as { upgrade?: boolean }
  return upgrade ?? raw.headers.upgrade !== undefined
}

/**
 * Ends the transactions of a hijacked reply that rest without having written anything, as its socket may stay open for
 * hours. A transaction with writes stays open for commit(), as long as idleInTransactionTimeout allows.
 */
export function releaseWhileHijacked (session: ManagedSession, reply: FastifyReply): void {
  // Each question is a statement, which restarts idleInTransactionTimeout: it is asked once after the last use.
  let asked: number | null = 0
  let warned: number | null = null
  const check = async (): Promise<void> => {
    const { since, state, nothingAwaited, resting } = session
    const isIdle = since !== null && state === 'active' && nothingAwaited && performance.now() - since >= interval
    if (!isIdle || (resting !== null && resting === asked)) return
    const result = await endUnchanged(session)
    if (result === 'interrupted') return
    asked = session.resting
    if (result === 'ended' || warned === since) return
    warned = since
    reply.log.warn('a hijacked reply holds a connection, because its transaction has work that is not committed: ' +
      'call request.db.commit() as soon as the work is done, or do it in app.db.scope()')
  }
  // In mode 'autocommit' only a transaction that was asked for holds a connection.
  if (session.mode === 'autocommit') return
  const timer = setInterval(() => { check().catch(() => {}) }, interval)
  letExit(timer)
  reply.raw.on('close', () => clearInterval(timer))
}
