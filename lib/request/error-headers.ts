import type { FastifyReply } from 'fastify'
import { checkHeader, isHttp2, isStatus } from './sendable.ts'
import { trailerNames } from './trailers.ts'

/**
 * Header fields that describe the response that is not sent: its representation (RFC 9110, section 8), the resource
 * that it created or refers to, caching (RFC 9111) and transfer. All other fields are kept, as Fastify does for any
 * error: set-cookie, vary, CORS and security headers describe the request, the client or the connection.
 */
const describesBody = new Set([
  'content-type', 'content-encoding', 'content-language', 'content-length', 'content-location', 'content-range',
  'content-disposition', 'content-md5', 'content-digest', 'repr-digest', 'digest', 'signature', 'signature-input',
  'etag', 'last-modified', 'accept-ranges', 'location', 'link', 'retry-after', 'refresh', 'sourcemap',
  'preference-applied',
  'cache-control', 'cdn-cache-control', 'surrogate-control', 'pragma', 'expires', 'age', 'warning',
  'transfer-encoding', 'trailer', 'x-accel-redirect', 'x-accel-expires', 'x-sendfile'
])

/**
 * Removes the headers, trailers and status message of a success, so that clients read the error in its place
 * correctly.
 */
export function takeBackSuccess (reply: FastifyReply): void {
  const { raw } = reply
  if (raw.headersSent) return
  const http2 = isHttp2(reply)
  for (const [name, value] of Object.entries(reply.getHeaders())) {
    if (describesBody.has(name) || !canBeSent(name, value, http2)) reply.removeHeader(name)
  }
  for (const name of trailerNames(reply) ?? []) reply.removeTrailer(name)
  if (!http2 && raw.statusMessage) raw.statusMessage = ''
  if (!isStatus(raw.statusCode)) raw.statusCode = 500
}

function canBeSent (name: string, value: unknown, http2: boolean): boolean {
  try {
    checkHeader(name, value, http2)
    return true
  } catch {
    return false
  }
}
