import type { Engine } from './engine.ts'
import type { RouteOptions } from './options.ts'
import type { Session } from './session.ts'

declare module 'fastify' {
  interface FastifyInstance {
    db: Engine
  }
  interface FastifyRequest {
    db: Session
  }
  interface FastifyContextConfig {
    db?: RouteOptions
  }
}
