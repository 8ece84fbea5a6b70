import Fastify, { type FastifyInstance, type FastifyRequest, type FastifyServerOptions } from 'fastify'
import pgScope, { type PgScopeOptions } from 'fastify-pg-scope'

/** The tenant of a request. Here a header stands for what your authentication knows, of a verified token say. */
function tenantOf (request: FastifyRequest): string | undefined {
  const tenant = request.headers['x-tenant']
  return typeof tenant === 'string' && /^[\w-]{1,40}$/.test(tenant) ? tenant : undefined
}

/**
 * Handlers know nothing of tenants: role and tenant belong to each transaction, set in the same round trip as its
 * BEGIN, and PostgreSQL forgets them at its end.
 */
export async function buildApp (
  database: PgScopeOptions, options: FastifyServerOptions = {}
): Promise<FastifyInstance> {
  const app = Fastify(options) as unknown as FastifyInstance
  await app.register(pgScope, {
    ...database,
    role: 'tenant',
    settings: (request) => {
      const tenant = tenantOf(request)
      return tenant === undefined ? {} : { 'app.tenant': tenant }
    }
  })

  app.get('/notes', { config: { db: { readOnly: true } } }, async ({ db }) => {
    return (await db.query('select tenant, text from notes order by id desc limit 20')).rows
  })

  app.get('/notes/all', async ({ db }) => db.stream('select tenant, text from notes'))

  app.post<{ Body: { text: string } }>('/notes', {
    schema: { body: { type: 'object', required: ['text'], properties: { text: { type: 'string' } } } },
    config: { db: { isolation: 'serializable', retry: 5 } }
  }, async ({ db, body }, reply) => {
    const { rows: [note] } = await db.query('insert into notes (text) values ($1) returning tenant, text', [body.text])
    return reply.code(201).send(note)
  })

  return app
}
