import type { FastifyInstance } from 'fastify'
import { byHand as careful } from '../../by-hand.ts'
import type { Setup, Subject } from '../subject.ts'
import { rowsByCursor } from './row-cursor.ts'

/** What a careful author writes with node-postgres. */
export async function byHand (app: FastifyInstance, setup: Setup): Promise<Subject> {
  const { pool, inTransaction } = careful(app, setup)
  return {
    route: (method, url, options, handler) => app.route({
      ...options,
      method,
      url,
      handler: (request, reply) => inTransaction((client) => handler({
        query: (text, values) => client.query(text, values),
        commit: () => client.query('COMMIT')
      }, request, reply))
    }),
    rows: (url, text) => app.get(url, (_request, reply) => reply.type('application/x-ndjson').send(rowsByCursor(() => pool.connect(), text))),
    use: () => ({ open: pool.totalCount, inUse: pool.totalCount - pool.idleCount, waiting: pool.waitingCount })
  }
}
