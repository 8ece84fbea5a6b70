import { setTimeout as sleep } from 'node:timers/promises'
import Fastify, { type FastifyInstance } from 'fastify'
import pgScope, { type PgScopeOptions } from '../../lib/index.ts'

/** No key on the client's id: a transfer that ran twice has to show, not to fail. */
export const schema = `
  DROP TABLE IF EXISTS transfers, entries;
  CREATE TABLE transfers (id text NOT NULL);
  CREATE TABLE entries (transfer text NOT NULL, amount int NOT NULL)`

/** Fewer connections than clients, so that some requests wait. */
export const connections = 5

/** Reads, and transfers of which nothing may be kept but the whole. */
export async function buildApp (
  connectionString: string, { pool, ...options }: PgScopeOptions
): Promise<FastifyInstance> {
  const app = Fastify()
  await app.register(pgScope, {
    connectionString, ...options, pool: { max: connections, acquireTimeout: 3000, ...pool }
  })
  app.get('/entries', { config: { db: { readOnly: true } } }, async ({ db }) => (await db.query('SELECT count(*)::int AS n FROM (SELECT FROM entries LIMIT 100) AS few')).rows[0])
  app.post<{ Params: { id: string } }>('/transfers/:id', async ({ db, params: { id } }, reply) => {
    await db.query('INSERT INTO transfers VALUES ($1)', [id])
    // Long enough in its transaction to be met there.
    await sleep(5)
    await db.query('INSERT INTO entries VALUES ($1, -10)', [id])
    await db.query('INSERT INTO entries VALUES ($1, 10)', [id])
    return reply.code(201).send({ id })
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  return app
}
