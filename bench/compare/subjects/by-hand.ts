import type { FastifyInstance } from 'fastify'
import pg from 'pg'
import type { Setup, Subject } from '../subject.ts'
import { rowsByCursor } from './row-cursor.ts'

/**
 * node-postgres' own page on transactions (https://node-postgres.com/features/transactions), and what a careful author adds:
 * 'error' listeners on the pool and its clients, a bounded wait for a connection, and a client whose ROLLBACK failed is
 * destroyed.
 */
export async function byHand (app: FastifyInstance, { connectionString, max, acquireTimeout }: Setup): Promise<Subject> {
  const pool = new pg.Pool({ connectionString, max, connectionTimeoutMillis: acquireTimeout })
  pool.on('error', () => {}).on('connect', (client) => client.on('error', () => {}))
  app.addHook('onClose', () => pool.end())

  async function inTransaction<T> (fn: (client: pg.PoolClient) => Promise<T> | T): Promise<T> {
    const client = await pool.connect()
    let broken = false
    try {
      await client.query('BEGIN')
      const result = await fn(client)
      await client.query('COMMIT')
      return result
    } catch (error) {
      await client.query('ROLLBACK').catch(() => { broken = true })
      throw error
    } finally {
      client.release(broken)
    }
  }

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
