import pg from 'pg'
import { buildApp } from './app.ts'
import { loginRole, schema } from './schema.ts'

/** A PostgreSQL for trying it out; in production DATABASE_URL leads to yours, as the role `app`. */
async function startEmbedded (): Promise<{ url: string, stop (): Promise<void> }> {
  const { startPostgres } = await import('fastify-pg-scope/embedded')
  const postgres = await startPostgres({ database: 'tenants' })
  const owner = new pg.Client(postgres.connectionString)
  await owner.connect()
  await owner.query(schema)
  await owner.query(loginRole('for-trying-it-out'))
  await owner.end()
  const url = new URL(postgres.connectionString)
  url.username = 'app'
  url.password = 'for-trying-it-out'
  return { url: url.href, stop: () => postgres.stop() }
}

const { DATABASE_URL } = process.env
const embedded = DATABASE_URL === undefined || DATABASE_URL === '' ? await startEmbedded() : null
const app = await buildApp({ connectionString: embedded?.url ?? DATABASE_URL! }, { logger: true })
if (embedded !== null) app.addHook('onClose', () => embedded.stop())
await app.listen({ port: Number(process.env.PORT ?? 3000) })
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => { app.close() })
