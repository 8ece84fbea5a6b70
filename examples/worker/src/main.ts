import fastifyEnv from '@fastify/env'
import Fastify from 'fastify'
import pgScope from 'fastify-pg-scope'
import { handlers } from './handlers.ts'
import { createSchema } from './schema.ts'
import { Worker } from './worker.ts'

interface Settings {
  DATABASE_URL?: string
  CONCURRENCY: number
  POLL_INTERVAL: number
  ATTEMPTS: number
  LOG_LEVEL: string
}

const schema = {
  type: 'object',
  properties: {
    DATABASE_URL: { type: 'string' },
    CONCURRENCY: { type: 'integer', minimum: 1, default: 4 },
    POLL_INTERVAL: { type: 'integer', minimum: 10, default: 500 },
    ATTEMPTS: { type: 'integer', minimum: 1, default: 3 },
    LOG_LEVEL: { type: 'string', default: 'info' }
  }
}

// An app that never listens: it brings the plugin, the log and an orderly close.
const app = Fastify({ logger: true, pluginTimeout: 120_000 })
try {
  await app.register(fastifyEnv, { schema, data: Object.fromEntries(Object.entries(process.env).filter(([, value]) => value !== '')), env: false })
  const { DATABASE_URL, CONCURRENCY, POLL_INTERVAL, ATTEMPTS, LOG_LEVEL } = app.getEnvs<Settings>()
  app.log.level = LOG_LEVEL
  await app.register(pgScope, {
    connectionString: DATABASE_URL ?? await startEmbedded(),
    // One connection for each job that runs.
    pool: { max: CONCURRENCY }
  })
  await app.ready()
  await createSchema(app.db)
  if (DATABASE_URL === undefined) await app.db.query('insert into jobs (kind, payload) select \'letter\', jsonb_build_object(\'receiver\', \'reader \' || n) from generate_series(1, 20) as n')
  const worker = new Worker(app.db, handlers, app.log, {
    concurrency: CONCURRENCY, pollInterval: POLL_INTERVAL, attempts: ATTEMPTS
  })
  worker.start()
  stopOnSignals(worker)
  app.log.info({ concurrency: CONCURRENCY }, 'ready for jobs')
} catch (error) {
  await app.close().catch(() => {})
  fail(error)
}

function stopOnSignals (worker: Worker): void {
  let stopped: Promise<void> | undefined
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    // npm passes on what the terminal has sent to all.
    process.on(signal, () => {
      app.log.info(`${signal}: finishing the jobs that run`)
      stopped ??= worker.stop().then(() => app.close()).then(() => app.log.info('stopped'), fail)
    })
  }
}

/** A PostgreSQL for trying it out. The import is here so that production never loads it. */
async function startEmbedded (): Promise<string> {
  const { startPostgres } = await import('fastify-pg-scope/embedded')
  const postgres = await startPostgres({ database: 'jobs' })
  // Hooks of onClose run last in, first out: this one comes before the engine's own, so that the server outlives
  // the pool.
  app.addHook('onClose', () => postgres.stop())
  app.log.info('started a PostgreSQL of our own, and 20 jobs to begin with')
  return postgres.connectionString
}

function fail (error: unknown): void {
  console.error(`The worker cannot run: ${error instanceof Error ? error.message : String(error)}`)
  process.exitCode = 1
}
