import type { FastifyInstance } from 'fastify'
import postgres from '@fastify/postgres'
import type { Setup, Subject } from '../subject.ts'
import { rowsByCursor } from './row-cursor.ts'

/**
 * As its README shows it: the route option `transact`, and `connect()` where a handler has to hold the client itself.
 */
export async function fastifyPostgres (
  app: FastifyInstance, { connectionString, max, acquireTimeout, listeners }: Setup
): Promise<Subject> {
  await app.register(postgres, { connectionString, max, connectionTimeoutMillis: acquireTimeout })
  const { pool } = app.pg
  if (listeners) pool.on('error', () => {}).on('connect', (client) => client.on('error', () => {}))
  return {
    route: (method, url, options, handler) => app.route({
      ...options,
      pg: { transact: true },
      method,
      url,
      handler: (request, reply) => {
        const client = request.pg!
        return handler({
          query: (text, values) => client.query(text, values),
          commit: () => client.query('COMMIT')
        }, request, reply)
      }
    }),
    // `transact` commits before a stream is read, which closes the cursor.
    rows: (url, text) => app.get(url, (_request, reply) => reply.type('application/x-ndjson').send(rowsByCursor(() => app.pg.connect(), text))),
    use: () => ({ open: pool.totalCount, inUse: pool.totalCount - pool.idleCount, waiting: pool.waitingCount })
  }
}
