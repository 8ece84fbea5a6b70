import { ServerResponse, type IncomingMessage } from 'node:http'
import type { FastifyReply } from 'fastify'
import { discard } from './payload.ts'
import { copyState } from './reply-state.ts'

type Keyed = Record<PropertyKey, unknown>
type Method = (this: object, ...values: unknown[]) => unknown

/**
 * The reply as one attempt of a handler sees it. It stands for the reply of the request until the attempt has failed,
 * and then for one that goes nowhere: what the attempt has left running cannot answer for the next one.
 *
 *     handler ──► seen ──► target: the reply of the request, until detach()
 *                              ╰─► then a copy of it, which sends nothing
 *
 * `seen` has the methods of the reply. Fastify's own run on the target, decorators on `seen` itself. Its other
 * properties are found by a Proxy at the end of its prototypes: a Proxy around the reply itself would make each access
 * of Fastify's own methods slower.
 */
export class AttemptReply {
  /** What the handler gets. */
  readonly seen: FastifyReply
  target: FastifyReply
  /** How many responses the attempt has begun to send. */
  responses = 0

  /** @param reply that of the request, or what the attempt of another engine sees of it */
  constructor (reply: FastifyReply) {
    this.target = reply
    this.seen = new (classFor(reply))(this) as unknown as FastifyReply
  }

  /** The attempt has failed. */
  detach (): void {
    this.target = replyToNowhere(ownReply(this.target))
  }
}

/** The reply of the request. */
export function ownReply (reply: FastifyReply): FastifyReply {
  let owner = SeenReply.ownerOf(reply)
  while (owner !== null) {
    reply = owner.target
    owner = SeenReply.ownerOf(reply)
  }
  return reply
}

class SeenReply {
  readonly #owner: AttemptReply

  constructor (owner: AttemptReply) {
    this.#owner = owner
  }

  /** @returns null if the value is no such reply */
  static ownerOf (value: object): AttemptReply | null {
    return #owner in value ? value.#owner : null
  }
}

/** One class for each constructor of replies: Fastify makes one for each context of plugins. */
const classes = new WeakMap<object, typeof SeenReply>()

function classFor (reply: FastifyReply): typeof SeenReply {
  const prototype = Object.getPrototypeOf(reply) as object
  let known = classes.get(prototype)
  if (known === undefined) {
    known = class extends SeenReply {}
    for (const [key, isDecorator] of methodsOf(prototype)) {
      Object.defineProperty(known.prototype, key, forwarding(key, isDecorator))
    }
    Object.setPrototypeOf(known.prototype, elsewhere)
    classes.set(prototype, known)
  }
  return known
}

/** The names of all methods, and whether each is a decorator: the last of the prototypes is Fastify's own. */
function methodsOf (prototype: object): Map<PropertyKey, boolean> {
  const keys = new Map<PropertyKey, boolean>()
  for (let each = prototype; each !== Object.prototype; each = Object.getPrototypeOf(each) as object) {
    const isDecorator = Object.getPrototypeOf(each) !== Object.prototype
    for (const key of Reflect.ownKeys(each)) {
      const isMethod = typeof Object.getOwnPropertyDescriptor(each, key)?.value === 'function'
      if (isMethod && key !== 'constructor') keys.set(key, isDecorator)
    }
  }
  return keys
}

/** A method, which a handler may also replace. A decorator is part of the attempt: what it sends is of the attempt. */
function forwarding (key: PropertyKey, isDecorator: boolean): PropertyDescriptor {
  const method = function (this: object, ...values: unknown[]): unknown {
    const owner = SeenReply.ownerOf(this)
    if (isDecorator && owner !== null) {
      return (ownReply(owner.target) as unknown as Record<PropertyKey, Method>)[key]!.apply(this, values)
    }
    const target = (owner?.target ?? this) as Keyed
    if (owner !== null && key === 'send') owner.responses++
    const result = (target[key] as (...values: unknown[]) => unknown)(...values)
    return result === target ? this : result
  }
  return {
    configurable: true,
    get: () => method,
    set (this: object, value: unknown) { Reflect.set(elsewhere, key, value, this) }
  }
}

/** Ends the prototypes of what an attempt sees: all that is no method is that of the target. */
const elsewhere = new Proxy({}, {
  get (_target, key, seen) {
    const owner = SeenReply.ownerOf(seen)
    return owner === null ? undefined : (owner.target as unknown as Keyed)[key]
  },
  set (_target, key, value, seen) {
    const owner = SeenReply.ownerOf(seen)
    return owner !== null && Reflect.set(owner.target, key, value)
  }
})

/** As the reply is now. What is done to it has no effect on the request. */
function replyToNowhere (reply: FastifyReply): FastifyReply {
  const raw = new ServerResponse({ method: 'GET', httpVersionMajor: 1, httpVersionMinor: 1 } as IncomingMessage)
  raw.on('error', () => {}).end()
  const unchanged = (): FastifyReply => nowhere
  const nowhere: FastifyReply = Object.assign(copyState(reply), {
    raw,
    send (payload: unknown) {
      discard(payload)
      reply.log.error('the handler sent a response after its attempt had failed: it is not sent')
      return nowhere
    },
    hijack: unchanged,
    callNotFound: unchanged
  })
  return nowhere
}
