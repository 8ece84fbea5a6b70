import type { FastifyReply } from 'fastify'
import { isPlainObject } from '../kind-of.ts'

/** Fastify keeps the state of a reply under symbols with such descriptions, and has no public method to reset it. */
const prefix = 'fastify.reply.'

type State = Record<symbol, unknown>

/** The status, headers, trailers and everything else of a reply before its handler ran. */
export class ReplyState {
  readonly #reply: FastifyReply
  readonly #symbols: readonly symbol[]
  readonly #values: readonly unknown[]
  readonly #status: number
  readonly #statusMessage: string
  readonly #rawHeaders: Readonly<Record<string, unknown>>

  constructor (reply: FastifyReply) {
    const { raw } = reply
    this.#reply = reply
    this.#symbols = symbolsOf(reply)
    this.#values = this.#symbols.map((symbol) => copy((reply as unknown as State)[symbol]))
    this.#status = raw.statusCode
    this.#statusMessage = isHttp2(reply) ? '' : raw.statusMessage
    this.#rawHeaders = raw.getHeaders()
  }

  /** Undoes what the handler, hooks and error handlers have done to the reply. Nothing of it may have been sent. */
  restore (): void {
    const { raw } = this.#reply
    const state = this.#reply as unknown as State
    for (const symbol of symbolsOf(this.#reply)) {
      const index = this.#symbols.indexOf(symbol)
      state[symbol] = index === -1 ? undefined : copy(this.#values[index])
    }
    for (const name of raw.getHeaderNames()) if (!Object.hasOwn(this.#rawHeaders, name)) raw.removeHeader(name)
    for (const [name, value] of Object.entries(this.#rawHeaders)) raw.setHeader(name, value as string)
    raw.statusCode = this.#status
    if (!isHttp2(this.#reply)) raw.statusMessage = this.#statusMessage
  }
}

/** Makes Fastify treat what is sent next as an error, even if it is not an Error. */
export function announceError (reply: FastifyReply): void {
  const symbol = symbolsOf(reply).find(({ description }) => description === `${prefix}isError`)
  if (symbol !== undefined) (reply as unknown as State)[symbol] = true
}

function symbolsOf (reply: FastifyReply): symbol[] {
  return Object.getOwnPropertySymbols(reply).filter(({ description }) => description?.startsWith(prefix))
}

/** reply.header() appends to the array of set-cookie. */
function copy (value: unknown): unknown {
  if (!isPlainObject(value)) return value
  const fields = Object.entries(value).map(([name, each]) => [name, Array.isArray(each) ? each.slice() : each])
  return Object.fromEntries(fields)
}

/** HTTP/2 has no status message, and Node warns when it is used. */
function isHttp2 (reply: FastifyReply): boolean {
  return reply.request.raw.httpVersionMajor >= 2
}
