import type { FastifyInstance } from 'fastify'
import pg from 'pg'

export interface ByHand {
  pool: pg.Pool
  inTransaction<T> (fn: (client: pg.PoolClient) => Promise<T> | T, begin?: string): Promise<T>
}

/**
 * node-postgres' own page on transactions (https://node-postgres.com/features/transactions), and what a careful
 * author adds: 'error' listeners on the pool and its clients, a bounded wait for a connection, and a client whose
 * ROLLBACK failed is destroyed.
 *
 * @param acquireTimeout milliseconds
 */
export function byHand (
  app: FastifyInstance,
  { connectionString, max, acquireTimeout }: { connectionString: string, max: number, acquireTimeout: number }
): ByHand {
  const pool = new pg.Pool({ connectionString, max, connectionTimeoutMillis: acquireTimeout })
  pool.on('error', () => {}).on('connect', (client) => client.on('error', () => {}))
  app.addHook('onClose', () => pool.end())
  return {
    pool,
    async inTransaction (fn, begin = 'BEGIN') {
      const client = await pool.connect()
      let broken = false
      try {
        await client.query(begin)
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
  }
}
