import type { FastifyInstance, FastifyReply, FastifyRequest, RouteOptions as FastifyRoute } from 'fastify'
import { isPromiseLike } from '../kind-of.ts'

/** On the function that stands for a handler: the registrations of this plugin that run it. */
const runners = Symbol('fastify-pg-scope.runners')

type Handler = FastifyRoute['handler'] & { [runners]?: readonly symbol[] }

/** @param handle calls the handler with what it is to see of the reply */
type Begin = (request: FastifyRequest, reply: FastifyReply, handle: (reply: FastifyReply) => unknown) => unknown

/**
 * Gives the calls of a handler to `begin`. Each registration of this plugin does so: the first one is the innermost.
 *
 * Fastify passes a GET route to onRoute again, as a HEAD route: its handler is not wrapped a second time.
 */
export function runWith (route: FastifyRoute, registration: symbol, begin: Begin): void {
  const handler: Handler = route.handler
  const before = handler[runners] ?? []
  if (before.includes(registration)) return
  route.handler = Object.assign(function (this: FastifyInstance, request: FastifyRequest, reply: FastifyReply) {
    return begin(request, reply, (reply) => handler.call(this, request, reply))
  }, { [runners]: [...before, registration] })
}

/** Calls `tell` when the promise of the handler is fulfilled. */
export function tellWhenHandled (route: FastifyRoute, tell: (request: FastifyRequest) => void): void {
  const handler: Handler = route.handler
  route.handler = Object.assign(function (this: FastifyInstance, request: FastifyRequest, reply: FastifyReply) {
    const result = handler.call(this, request, reply) as unknown
    if (isPromiseLike(result)) result.then(() => tell(request), () => {})
    return result
  }, { [runners]: handler[runners] ?? [] })
}
