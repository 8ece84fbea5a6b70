import { type TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'
import config, { type ConfigOptions } from './config.ts'
import database from './plugins/database.ts'
import errors from './plugins/errors.ts'
import silentSockets from './plugins/silent-sockets.ts'
import accounts from './routes/accounts.ts'
import health from './routes/health.ts'
import ledger from './routes/ledger.ts'
import transfers from './routes/transfers.ts'

export type AppOptions = FastifyServerOptions & ConfigOptions

/** Everything but the port: tests build the same app and inject their requests. */
export function buildApp ({ env, ...options }: AppOptions = {}): FastifyInstance {
  const app = Fastify({
    // A new embedded database takes longer than Fastify's ten seconds on a slow machine, and so may a migration.
    pluginTimeout: 120_000,
    // Fastify's defaults would take "5" for 5, and drop what the schema does not know: a bank refuses both.
    ajv: { customOptions: { coerceTypes: false, removeAdditional: false } },
    ...options
  }).withTypeProvider<TypeBoxTypeProvider>()

  app.register(config, { env })
  app.register(errors)
  app.register(silentSockets)
  app.register(database)

  app.register(accounts)
  app.register(transfers)
  app.register(ledger)
  app.register(health)
  return app
}
