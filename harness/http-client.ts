import { connect } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { HttpResponseReader } from './http-response.ts'
import type { Socket } from 'node:net'
import type { HttpResponse } from './http-response.ts'

export type { HttpResponse } from './http-response.ts'

export interface HttpRequest {
  /** Default GET, or POST with a body. */
  method?: string
  /** Default '/'. */
  path?: string
  /** Default '1.1'. */
  version?: '1.0' | '1.1'
  /** Win over those that are set here: a larger content-length announces a body that never comes whole. */
  headers?: Record<string, string>
  /** Anything but a string or Buffer is sent as JSON. */
  body?: unknown
  /** Leave the socket open after the response, for another request. Default false: `connection: close`. */
  keepAlive?: boolean
  /** Over TLS; the certificate is not checked. */
  secure?: boolean
  /** An open socket of an earlier keepAlive request, to use instead of a new one. */
  socket?: Socket
}

export interface OpenRequest {
  socket: Socket
  /** Resolves, and never rejects, when the response is complete or the socket is closed. */
  response: Promise<HttpResponse>
  /** What has been read so far. */
  read: () => HttpResponse
}

/** When to hang up: milliseconds, a promise that settles, the response's headers, or so many bytes of its body. */
export type HangUpTime = number | Promise<unknown> | 'headers' | { bytes: number }

const host = '127.0.0.1'
const ignore = () => {}

/** Sends a request on a socket of its own, and leaves the rest to the caller. */
export function openRequest (port: number, request: HttpRequest = {}): OpenRequest {
  return open(port, request, () => {})
}

/** Reads to the end of the response, or to what there is of it: a failed connection is a status 0, not a rejection. */
export async function send (port: number, request: HttpRequest = {}): Promise<HttpResponse & { socket: Socket }> {
  const { socket, response } = openRequest(port, request)
  const result = await response
  if (!request.keepAlive || !result.complete) socket.destroy()
  return { ...result, socket }
}

/**
 * Sends a complete request and goes away. Returns what it had read until then; `complete: true` says that the
 * response was there first. With `reset` the server sees RST instead of FIN.
 */
export async function hangUp (
  port: number,
  request: HttpRequest,
  { after, reset = false }: { after: HangUpTime, reset?: boolean }
): Promise<HttpResponse> {
  const { socket, response, read } = open(port, request, reader => {
    if (after === 'headers' && reader.state !== 'head') leave()
    else if (hasBytes(after) && reader.bodyBytes >= after.bytes && reader.state !== 'head') leave()
  })
  const leave = () => { reset ? socket.resetAndDestroy() : socket.destroy() }
  const timer = typeof after === 'number' ? setTimeout(leave, after) : undefined
  if (after instanceof Promise) after.then(leave, leave)
  await response
  clearTimeout(timer)
  leave()
  return read()
}

function hasBytes (after: HangUpTime): after is { bytes: number } {
  return typeof after === 'object' && 'bytes' in after
}

function open (port: number, request: HttpRequest, onData: (reader: HttpResponseReader) => void): OpenRequest {
  const { method = request.body === undefined ? 'GET' : 'POST' } = request
  const socket = request.socket ?? (request.secure === true
    ? connectTls({ port, host, rejectUnauthorized: false })
    : connect({ port, host, noDelay: true }))
  const reader = new HttpResponseReader(method)
  let failure: Error | undefined
  const response = new Promise<HttpResponse>(resolve => {
    const settle = () => {
      socket.off('data', receive)
      socket.off('end', end)
      socket.off('close', settle)
      socket.off('error', fail)
      // An error of a socket that nobody watches any more would end the process.
      socket.off('error', ignore).on('error', ignore)
      resolve(reader.response(failure))
    }
    const end = () => {
      reader.end()
      settle()
    }
    const fail = (error: Error) => { failure = error }
    const receive = (chunk: Buffer) => {
      reader.push(chunk)
      onData(reader)
      if (reader.state === 'complete') settle()
    }
    socket.on('data', receive)
    socket.on('end', end)
    socket.on('error', fail)
    socket.on('close', settle)
    if (socket.destroyed) settle()
  })
  socket.write(encode(port, method, request))
  return { socket, response, read: () => reader.response(failure) }
}

function encode (port: number, method: string, request: HttpRequest): Buffer {
  const { path = '/', version = '1.1', body, keepAlive = false } = request
  const raw = typeof body === 'string' || Buffer.isBuffer(body)
  const payload = body === undefined ? null : Buffer.from(raw ? body : JSON.stringify(body))
  const headers: Record<string, string> = {
    host: `${host}:${port}`,
    connection: keepAlive ? 'keep-alive' : 'close',
    ...(payload && { 'content-length': String(payload.length) }),
    ...(payload && !raw && { 'content-type': 'application/json' })
  }
  for (const [name, value] of Object.entries(request.headers ?? {})) headers[name.toLowerCase()] = value
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
  const head = Buffer.from(`${method} ${path} HTTP/${version}\r\n${lines.join('')}\r\n`)
  return payload ? Buffer.concat([head, payload]) : head
}
