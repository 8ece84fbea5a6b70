import Fastify from 'fastify'
import pgScope from 'fastify-pg-scope'
import { registerMetrics } from 'fastify-pg-scope/metrics'
import client from 'prom-client'

/**
 * @param {import('fastify-pg-scope').PgScopeOptions} database
 * @param {import('fastify').FastifyServerOptions} options
 */
export async function buildApp (database, options = {}) {
  const app = Fastify(options)
  await app.register(pgScope, {
    leakDetectionThreshold: 10_000, // without it pg_scope_connection_leaks_total stays 0
    slowStatementThreshold: 500,
    slowTransactionThreshold: 2_000,
    traceContext: true,
    ...database
  })
  const register = new client.Registry()
  client.collectDefaultMetrics({ register })
  registerMetrics(app, { register })

  app.get('/metrics', async (_request, reply) => reply.type(register.contentType).send(await register.metrics()))
  app.get('/time', { config: { db: { readOnly: true } } }, async (request) => {
    const { rows: [row] } = await request.db.query('select now() as time')
    return row
  })
  return app
}
