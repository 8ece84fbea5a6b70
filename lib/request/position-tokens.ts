import { createHmac, timingSafeEqual } from 'node:crypto'
import type { FastifyBaseLogger, FastifyReply, FastifyRequest } from 'fastify'
import type { ReadYourWrites } from '../config/replica-policy.ts'
import { RequestWriter, type Writer } from '../exchange/written-position.ts'
import { parsePosition, type WalPosition } from '../postgres/wal-position.ts'
import type { Done } from './answer.ts'

/** Takes the token to the client and back, where no cookie does. */
const header = 'x-pg-scope-lsn'

/** What @fastify/cookie adds. */
interface WithCookies {
  readonly cookies?: Readonly<Record<string, string | undefined>>
  setCookie? (name: string, value: string, options: object): unknown
}

/**
 * Positions in the log that clients carry from the response of a write to their next reads. They are signed: a client
 * that could name any position would send all its reads to the primary.
 */
export class PositionTokens {
  /** The property of a request that has its writer: Fastify resets it for each request. */
  readonly mark = Symbol('fastify-pg-scope.writer')
  readonly #secret: string
  readonly #cookie: string
  readonly #log: FastifyBaseLogger
  /** It was logged that a token is ignored. */
  #hasIgnored = false

  constructor ({ secret, cookie }: ReadYourWrites, log: FastifyBaseLogger) {
    this.#secret = secret
    this.#cookie = cookie
    this.#log = log
  }

  /** Where the client has written, or null. */
  read (request: FastifyRequest): WalPosition | null {
    const token = request.headers[header] ?? (request as unknown as WithCookies).cookies?.[this.#cookie]
    if (token === undefined || token === '') return null
    const position = typeof token === 'string' ? this.#verified(token) : null
    if (position === null && !this.#hasIgnored) {
      this.#hasIgnored = true
      this.#log.warn('a position that this process cannot verify is ignored: with several processes, give all of ' +
        'them the same `readYourWrites.secret`')
    }
    return position
  }

  /** What learns where a request has written. */
  writerOf (request: FastifyRequest): Writer {
    const marked = request as unknown as Record<symbol, Writer | null>
    return (marked[this.mark] ??= new RequestWriter())
  }

  /** Tells the client where the request has written, before its response is sent. */
  telling (request: FastifyRequest, reply: FastifyReply, done: Done): Done {
    return (error, payload) => {
      const { writtenAt } = this.writerOf(request)
      if (writtenAt !== null) this.#send(reply, writtenAt)
      done(error, payload)
    }
  }

  /** @param position as text */
  #send (reply: FastifyReply, position: string): void {
    // Too late after the first byte, as for the work of a streamed body.
    if (reply.raw.headersSent) return
    const token = `${position}.${this.#signature(position)}`
    const { setCookie } = reply as unknown as WithCookies
    if (setCookie === undefined) {
      reply.header(header, token)
      return
    }
    const secure = reply.request.protocol === 'https'
    setCookie.call(reply, this.#cookie, token, { path: '/', httpOnly: true, sameSite: 'lax', secure })
  }

  #verified (token: string): WalPosition | null {
    const end = token.lastIndexOf('.')
    const position = token.slice(0, Math.max(0, end))
    const given = Buffer.from(token.slice(end + 1))
    const expected = Buffer.from(this.#signature(position))
    return given.length === expected.length && timingSafeEqual(given, expected) ? parsePosition(position) : null
  }

  #signature (position: string): string {
    return createHmac('sha256', this.#secret).update(`pg-scope-lsn ${position}`).digest('base64url')
  }
}
