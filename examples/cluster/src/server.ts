import cluster from 'node:cluster'
import Fastify from 'fastify'
import pgScope from 'fastify-pg-scope'
import { inspector } from 'fastify-pg-scope/inspector'
import { Leadership, untilAborted } from './leader.ts'
import type { Settings } from './settings.ts'

/** One process: an app with an engine of its own, as it would be without a cluster. */
export async function serve (settings: Settings): Promise<void> {
  const { DATABASE_URL, DIRECT_URL, REPLICA_URLS, POSITION_SECRET, INSPECTOR_TOKEN, HOST, PORT, POOL_MAX } = settings
  // What came in while the process began to end is served: the primary has replaced it already.
  const app = Fastify({ logger: { level: settings.LOG_LEVEL }, return503OnClosing: false })
  await app.register(pgScope, {
    connectionString: DATABASE_URL,
    directUrl: DIRECT_URL,
    // All processes have the same secret, so that a client may write by one and read by another.
    ...(REPLICA_URLS !== undefined && {
      replicas: REPLICA_URLS.split(' '),
      readYourWrites: POSITION_SECRET === undefined ? true : { secret: POSITION_SECRET }
    }),
    pool: { max: POOL_MAX }
  })
  if (INSPECTOR_TOKEN !== undefined) {
    await app.register(inspector, {
      prefix: '/inspector',
      guard: (request) => request.headers.authorization === `Bearer ${INSPECTOR_TOKEN}`
    })
  }
  // A pooler in transaction mode cannot hold a session lock.
  const leadership = DIRECT_URL === undefined ? null : new Leadership(app, untilAborted)

  app.get('/', { config: { db: { readOnly: true } } }, async (request) => {
    const { rows: [row] } = await request.db.query(
      'select now() as time, pg_backend_pid() as backend, pg_is_in_recovery() as replica')
    return { pid: process.pid, leads: leadership?.isLeading ?? false, ...row }
  })
  app.post('/count', async (request) => {
    const { rows: [row] } = await request.db.query('select pg_current_xact_id()::text as transaction')
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
