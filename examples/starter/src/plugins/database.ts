import type { FastifyInstance } from 'fastify'
import pgScope from 'fastify-pg-scope'
import fp from 'fastify-plugin'
import { migrate } from '../migrate.ts'

/** `app.db` and `request.db` on an up-to-date schema. */
export default fp(async (app) => {
  const connectionString = app.config.DATABASE_URL || await startEmbedded(app)
  await app.register(pgScope, { connectionString })
  const applied = await migrate(app.db)
  if (applied.length > 0) app.log.info({ applied }, 'the schema was brought up to date')
}, { name: 'database', dependencies: ['config'] })

/** A PostgreSQL for development. The import is here so that production never loads it. */
async function startEmbedded (app: FastifyInstance): Promise<string> {
  if (app.config.NODE_ENV === 'production') throw new Error('DATABASE_URL is not set. In production the app starts no PostgreSQL')
  const { startPostgres } = await import('fastify-pg-scope/embedded')
  const dataFolder = app.config.DATA_FOLDER
  app.log.info(`starting PostgreSQL in ${dataFolder ?? 'a temporary folder'}`)
  const postgres = await startPostgres({ database: 'bank', ...(dataFolder === undefined ? {} : { dataFolder }) })
  // onClose hooks run last in, first out. This one is added before the engine's, so the server outlives the pool.
  app.addHook('onClose', () => postgres.stop())
  app.log.info({ dataFolder: postgres.dataFolder, temporary: dataFolder === undefined }, 'PostgreSQL accepts connections')
  return postgres.connectionString
}
