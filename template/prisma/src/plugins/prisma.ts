import type { FastifyInstance } from 'fastify'
import { PrismaPgScope, separateSessions } from 'fastify-pg-scope/prisma'
import fp from 'fastify-plugin'
import { PrismaClient } from '../generated/client.ts'

declare module 'fastify' {
  interface FastifyInstance {
    prisma: ReturnType<typeof clientOf>
  }
}

/** `app.prisma`: one client for all requests, whose queries run in the session of the running request. */
export default fp(async (app) => {
  app.decorate('prisma', clientOf(app))
}, { name: 'prisma', dependencies: ['database'] })

function clientOf ({ db }: FastifyInstance) {
  return new PrismaClient({ adapter: new PrismaPgScope(db) }).$extends(separateSessions(db))
}
