import type { IncomingMessage } from 'node:http'
import type { FastifyReply } from 'fastify'
import type { RawResponse } from './delivery.ts'

/** The last response of each connection on which requests came without waiting for answers (HTTP/1.1 pipelining). */
const newest = new WeakMap<object, RawResponse>()

/** A request has come. Its response has no socket yet where it waits for others of the same connection. */
export function notePipelined (request: IncomingMessage, raw: RawResponse): void {
  if (request.httpVersionMajor > 1 || raw.socket !== null) return
  const { socket } = request
  newest.set(socket, raw)
  raw.on('close', () => { if (newest.get(socket) === raw) newest.delete(socket) })
}

/**
 * The app is closing. A connection that stays open would keep the server from closing for as long as its keep-alive lasts, so the
 * last response of each connection announces its end. An earlier one must not: the connection would end with it, and those behind
 * it, whose work is saved, would never be answered.
 */
export function announceEnd ({ httpVersionMajor, socket }: IncomingMessage, reply: FastifyReply): void {
  if (httpVersionMajor > 1) return
  const last = newest.get(socket)
  if (last === undefined || last === reply.raw) {
    reply.header('connection', 'close')
    return
  }
  // Fastify sets it for requests that come after the app has begun to close (`return503OnClosing: false`).
  reply.raw.removeHeader('connection')
  // The head of the last one was written before the app began to close.
  if (last.headersSent) last.once('finish', () => socket.end())
}
