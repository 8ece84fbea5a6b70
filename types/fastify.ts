import type { Engine } from './engine.ts'
// Within `declare module 'fastify'` the name RouteOptions is Fastify's own as soon as another plugin adds to it there.
import type { RouteOptions as DatabaseRouteOptions } from './options.ts'
import type { Session } from './session.ts'

declare module 'fastify' {
  interface FastifyInstance {
    db: Engine
  }
  interface FastifyRequest {
    db: Session
  }
  interface FastifyContextConfig {
    db?: DatabaseRouteOptions
  }
}
