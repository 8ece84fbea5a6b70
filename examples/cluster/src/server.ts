import cluster from 'node:cluster'
import Fastify from 'fastify'
import pgScope from 'fastify-pg-scope'
import type { Settings } from './settings.ts'

/** One process: an app with an engine of its own, as it would be without a cluster. */
export async function serve ({ DATABASE_URL, HOST, PORT, POOL_MAX, LOG_LEVEL }: Settings): Promise<void> {
  // What came in while the process began to end is served: the primary has replaced it already.
  const app = Fastify({ logger: { level: LOG_LEVEL }, return503OnClosing: false })
  await app.register(pgScope, { connectionString: DATABASE_URL, pool: { max: POOL_MAX } })

  app.get('/', { config: { db: { readOnly: true } } }, async (request) => {
    const { rows: [row] } = await request.db.query('select now() as time, pg_backend_pid() as backend')
    return { pid: process.pid, ...row }
  })
  app.get('/pool', async () => ({ pid: process.pid, pooler: app.db.pooler, ...app.db.stats() }))

  // The terminal sends Ctrl-C to all: the primary says when to end.
  process.on('SIGINT', () => {})
  process.once('SIGTERM', () => {
    app.close().catch((error) => {
      app.log.error(error)
      process.exitCode = 1
    }).finally(() => cluster.worker?.disconnect())
  })
  await app.listen({ host: HOST, port: PORT })
}
