import { validateHeaderName, validateHeaderValue } from 'node:http'
import { errorCodes, type FastifyReply } from 'fastify'
import { isStream } from './reply-stream.ts'

/**
 * Looks at what Fastify and Node look at only behind the last onSend hook: found after COMMIT, it would be an error for work
 * that is saved.
 *
 * @throws what they would throw
 */
export function checkSendable (headers: ReturnType<FastifyReply['getHeaders']>, statusCode: number, payload: unknown): void {
  for (const name in headers) {
    validateHeaderName(name)
    const value = headers[name]
    if (Array.isArray(value)) for (const one of value) validateHeaderValue(name, one)
    else validateHeaderValue(name, value as string)
  }
  if (payload === undefined || payload === null || typeof payload === 'string' || Buffer.isBuffer(payload) || isStream(payload)) return
  // Fastify drops the payload of a status that has none.
  if (statusCode !== 204) throw new errorCodes.FST_ERR_REP_INVALID_PAYLOAD_TYPE(typeof payload)
}

export function isResponse (payload: unknown): payload is Response {
  return Object.prototype.toString.call(payload) === '[object Response]'
}

/**
 * What Fastify does with a Response behind the last onSend hook, done now: its status decides the outcome, and its body may be
 * read from the session.
 */
export function unwrap (response: Response, reply: FastifyReply): ReadableStream | null {
  if (response.bodyUsed) throw new errorCodes.FST_ERR_REP_RESPONSE_BODY_CONSUMED()
  reply.code(response.status)
  for (const [name, value] of response.headers) reply.header(name, value)
  return response.body
}
