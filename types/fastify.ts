// Within `declare module 'fastify'` a name is Fastify's own as soon as another plugin adds to it there: RouteOptions,
// or Session of @fastify/session.
import type { Engine as DatabaseEngine } from './engine.ts'
import type { RouteOptions as DatabaseRouteOptions } from './options.ts'
import type { Session as DatabaseSession } from './session.ts'

declare module 'fastify' {
  interface FastifyInstance {
    db: DatabaseEngine
  }
  interface FastifyRequest {
    db: DatabaseSession
  }
  interface FastifyContextConfig {
    db?: DatabaseRouteOptions
  }
}
