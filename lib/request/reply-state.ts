import type { FastifyReply } from 'fastify'
import { isPlainObject } from '../kind-of.ts'

/** What a reply has of its own, apart from the request and its like: Fastify's state, and that of plugins. */
type State = Record<PropertyKey, unknown>

/** Stands for an empty object: most replies have no header yet. */
const empty = Symbol('empty')

/** The status, headers, trailers and everything else of a reply before its handler ran. */
export class ReplyState {
  readonly #reply: FastifyReply
  readonly #keys: readonly PropertyKey[]
  readonly #values: readonly unknown[]
  readonly #status: number
  readonly #statusMessage: string
  readonly #rawHeaders: Readonly<Record<string, unknown>>
  readonly #sendsDate: boolean

  constructor (reply: FastifyReply) {
    const { raw } = reply
    const state = reply as unknown as State
    this.#reply = reply
    this.#keys = Reflect.ownKeys(reply)
    this.#values = this.#keys.map((key) => key === 'raw' || key === 'request' ? state[key] : copy(state[key]))
    this.#status = raw.statusCode
    this.#statusMessage = isHttp2(reply) ? '' : raw.statusMessage
    this.#rawHeaders = raw.getHeaders()
    this.#sendsDate = raw.sendDate
  }

  /** Undoes what the handler, hooks and error handlers have done to the reply. Nothing of it may have been sent. */
  restore (): void {
    const { raw } = this.#reply
    const state = this.#reply as unknown as State
    for (const key of Reflect.ownKeys(state)) if (!this.#keys.includes(key)) delete state[key]
    for (const [index, key] of this.#keys.entries()) {
      const value = this.#values[index]
      state[key] = value === empty ? {} : copy(value)
    }
    for (const name of raw.getHeaderNames()) if (!Object.hasOwn(this.#rawHeaders, name)) raw.removeHeader(name)
    for (const [name, value] of Object.entries(this.#rawHeaders)) raw.setHeader(name, value as string)
    // Node sends no date after the removal of one.
    raw.sendDate = this.#sendsDate
    raw.statusCode = this.#status
    if (!isHttp2(this.#reply)) raw.statusMessage = this.#statusMessage
  }
}

/** A reply in the same state, whose changes are its own. */
export function copyState (reply: FastifyReply): FastifyReply {
  const copied = Object.create(Object.getPrototypeOf(reply)) as State
  for (const key of Reflect.ownKeys(reply)) {
    const value = (reply as unknown as State)[key]
    const own = key === 'raw' || key === 'request' ? value : copy(value)
    copied[key] = own === empty ? {} : own
  }
  return copied as unknown as FastifyReply
}

/**
 * Makes the reply wait for its response by the same listeners, however often it is awaited. Each `then()` of Fastify
 * adds listeners of its own, as each attempt does that returns the reply, and Node warns about more than ten of them.
 */
export function awaitOnce (reply: FastifyReply): void {
  const { then } = reply
  let sent: Promise<void> | null = null
  // Not assigned as a literal: V8 makes such functions in the old generation, where the whole request would follow.
  const thenOnce: typeof then = function (this: FastifyReply, fulfilled, rejected) {
    if (this.sent) return fulfilled()
    sent ??= new Promise((resolve, reject) => then.call(reply, resolve, reject))
    sent.then(fulfilled, rejected ?? (() => {}))
  }
  reply.then = thenOnce
}

/** Makes Fastify treat what is sent next as an error, even if it is not an Error. Fastify has no method for it. */
export function announceError (reply: FastifyReply): void {
  const symbol = Object.getOwnPropertySymbols(reply).find(({ description }) => description === 'fastify.reply.isError')
  if (symbol !== undefined) (reply as unknown as State)[symbol] = true
}

/** A collection of values, which the attempt may change. reply.header() appends to the array of set-cookie. */
function copy (value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return value.slice()
  if (value instanceof Map) return new Map(value)
  if (value instanceof Set) return new Set(value)
  if (!isPlainObject(value)) return value
  const names = Object.keys(value)
  if (names.length === 0) return empty
  const fields: State = {}
  for (const name of names) {
    const each = (value as State)[name]
    fields[name] = Array.isArray(each) ? each.slice() : each
  }
  return fields
}

/** HTTP/2 has no status message, and Node warns when it is used. */
function isHttp2 (reply: FastifyReply): boolean {
  return reply.request.raw.httpVersionMajor >= 2
}
