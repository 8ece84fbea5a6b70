import { ServerResponse, validateHeaderName, validateHeaderValue, type OutgoingHttpHeaders } from 'node:http'
import { errorCodes, type FastifyReply } from 'fastify'
import { checkStream } from './payload.ts'
import { isStream } from './reply-stream.ts'
import { trailerNames } from './trailers.ts'

type Headers = ReturnType<FastifyReply['getHeaders']>

/**
 * Makes the checks that Fastify and Node make only after the last onSend hook: there, an error would be sent for
 * work that is already committed.
 *
 * @throws the error that Fastify or Node would throw
 */
export function checkSendable (reply: FastifyReply, headers: Headers, payload: unknown): void {
  const { raw, statusCode } = reply
  const http2 = isHttp2(reply)
  if (!isStatus(statusCode)) throw new errorCodes.FST_ERR_BAD_STATUS_CODE(String(statusCode))
  for (const name in headers) checkHeader(name, headers[name], http2)
  // HTTP/2 has no status message; Node emits a warning if it is read.
  if (!http2 && raw.statusMessage) validateHeaderValue('statusMessage', raw.statusMessage)
  const trailers = trailerNames(reply)
  if (trailers !== null) for (const name of trailers) checkHeader(name, '', http2)
  if (!http2 && (trailers !== null || headers.trailer !== undefined)) rehearse(reply, headers, trailers, payload)
  checkPayload(reply, payload)
}

/** @throws the error that Fastify or Node would throw for the payload in its current state */
export function checkPayload (reply: FastifyReply, payload: unknown): void {
  const { raw, statusCode } = reply
  if (isStream(payload)) {
    if (hasBody(statusCode)) checkStream(payload)
    return
  }
  if (raw.headersSent) throw new errorCodes.FST_ERR_REP_ALREADY_SENT(reply.request.url, reply.request.method)
  if (payload === undefined || payload === null || typeof payload === 'string' || Buffer.isBuffer(payload)) return
  // Fastify drops the payload if the status allows no body.
  if (hasBody(statusCode)) throw new errorCodes.FST_ERR_REP_INVALID_PAYLOAD_TYPE(typeof payload)
}

export function isHttp2 (reply: FastifyReply): boolean {
  return reply.request.raw.httpVersionMajor >= 2
}

/** The rule of Node's writeHead(), which also accepts codes that `reply.code()` rejects. */
export function isStatus (status: unknown): boolean {
  const number = (status as number) | 0
  return number >= 100 && number <= 999
}

function hasBody (status: number): boolean {
  return status >= 200 && status !== 204
}

/** Header fields of an HTTP/1 connection (RFC 9113, section 8.2.2). Node drops `connection` itself. */
const ofHttp1 = new Set(['transfer-encoding', 'keep-alive', 'proxy-connection', 'upgrade', 'http2-settings', 'te'])

/** Response header fields for which Node's HTTP/2 accepts only one value. */
const single = new Set([
  'access-control-allow-credentials', 'access-control-max-age', 'age', 'content-encoding', 'content-language',
  'content-length', 'content-location', 'content-md5', 'content-range', 'content-type', 'date', 'etag', 'expires',
  'last-modified', 'location',
  'max-forwards', 'retry-after', 'tk', 'x-content-type-options'
])

/** @throws the error that Node would throw for the header */
export function checkHeader (name: string, value: unknown, http2: boolean): void {
  validateHeaderName(name)
  if (Array.isArray(value)) for (const one of value) validateHeaderValue(name, one)
  else validateHeaderValue(name, value as string)
  if (http2) checkHttp2Header(name, value)
}

function checkHttp2Header (name: string, value: unknown): void {
  if (value === null) throw headerError('ERR_HTTP2_INVALID_HEADER_VALUE', `HTTP/2: the header "${name}" has no value.`)
  const isTrailers = value === 'trailers'
  if ((ofHttp1.has(name) && !(name === 'te' && isTrailers)) || (name === 'connection' && isTrailers)) {
    throw headerError('ERR_HTTP2_INVALID_CONNECTION_HEADERS', `HTTP/2 does not allow the header "${name}".`)
  }
  if (Array.isArray(value) && value.length > 1 && single.has(name)) {
    throw headerError('ERR_HTTP2_HEADER_SINGLE_VALUE', `HTTP/2: the header "${name}" takes one value.`)
  }
}

function headerError (code: string, message: string): Error {
  return Object.assign(new TypeError(message), { code })
}

/** Trailers require a chunked body, which depends on the status and all headers: lets Node itself check them. */
function rehearse (reply: FastifyReply, headers: Headers, trailers: string[] | null, payload: unknown): void {
  const head = { ...headers } as OutgoingHttpHeaders
  if (trailers !== null) Object.assign(head, { 'transfer-encoding': 'chunked', trailer: trailers.join(' ') })
  else if (!isStream(payload) && reply.request.method !== 'HEAD') head['content-length'] ??= 0
  new ServerResponse(reply.request.raw).writeHead(reply.statusCode, head)
}

/**
 * Applies a Response to the reply, like Fastify does after the last onSend hook. It must happen earlier, because the
 * status decides the outcome and the body may be read from the session.
 */
export function unwrap (response: Response, reply: FastifyReply): ReadableStream | null {
  if (response.bodyUsed) throw new errorCodes.FST_ERR_REP_RESPONSE_BODY_CONSUMED()
  reply.code(response.status)
  for (const [name, value] of response.headers) reply.header(name, value)
  return response.body
}
