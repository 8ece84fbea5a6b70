import type { IncomingMessage } from 'node:http'
import type { FastifyInstance, FastifyReply } from 'fastify'
import type { RawResponse } from './delivery.ts'

/** The last response of each connection with pipelined requests (HTTP/1.1). */
const newest = new WeakMap<object, RawResponse>()

/**
 * Notes a new request if it is pipelined: its response has no socket while it waits for earlier ones of the
 * connection.
 */
export function notePipelined (request: IncomingMessage, raw: RawResponse): void {
  if (request.httpVersionMajor > 1 || raw.socket !== null) return
  const { socket } = request
  newest.set(socket, raw)
  raw.on('close', () => { if (newest.get(socket) === raw) newest.delete(socket) })
}

/** The HTTP servers whose app is closing. */
const closing = new WeakSet<FastifyInstance['server']>()

export function noteClosing ({ server }: FastifyInstance): void {
  closing.add(server)
}

/**
 * Sets `connection: close` on the last response of a connection while the app is closing: a connection that stays
 * open would delay the close until its keep-alive timeout. An earlier response must not have the header: the
 * connection would end with it, and the clients of later requests, whose work is committed, would get no response.
 */
export function announceEnd (reply: FastifyReply): void {
  if (!closing.has(reply.server.server)) return
  const { httpVersionMajor, socket } = reply.request.raw
  if (httpVersionMajor > 1) return
  const last = newest.get(socket)
  if (last === undefined || last === reply.raw) {
    reply.header('connection', 'close')
    return
  }
  // Fastify sets the header for requests that arrive while the app is closing (`return503OnClosing: false`).
  reply.raw.removeHeader('connection')
  // The headers of the last response were sent before the app began to close.
  if (last.headersSent) last.once('finish', () => socket.end())
}
