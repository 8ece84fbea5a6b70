import type { FastifyInstance } from 'fastify'
import plugin from '../../../lib/index.ts'
import type { Setup, Subject } from '../subject.ts'

export async function pgScope (
  app: FastifyInstance, { connectionString, max, acquireTimeout, closeTimeout }: Setup
): Promise<Subject> {
  await app.register(plugin, { connectionString, pool: { max, acquireTimeout }, closeTimeout })
  return {
    route: (method, url, options, handler) => app.route({
      ...options, method, url, handler: (request, reply) => handler(request.db, request, reply)
    }),
    rows: (url, text) => app.get(url, (request) => request.db.stream(text)),
    use: () => app.db.stats()
  }
}
