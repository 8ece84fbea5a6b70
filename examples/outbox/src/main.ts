// A worker: `node dist/main.js`, or with `--boss`. It posts each event to RECEIVER as JSON.
import Fastify from 'fastify'
import pgScope from 'fastify-pg-scope'
import { startBossWorker, workBoss } from './boss.ts'
import type { Deliver } from './outbox.ts'
import { OutboxWorker } from './worker.ts'

const { DATABASE_URL, RECEIVER } = process.env
if (DATABASE_URL === undefined || RECEIVER === undefined) throw new Error('set DATABASE_URL and RECEIVER')

const deliver: Deliver = async (event) => {
  const response = await fetch(RECEIVER, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(event),
    signal: AbortSignal.timeout(10_000)
  })
  await response.arrayBuffer()
  if (response.status >= 300) throw new Error(`the receiver has answered with ${response.status}`)
}

// An app that never listens: it brings the plugin, the log and an orderly close.
const app = Fastify({ logger: { level: process.env.LOG_LEVEL ?? 'info' } })
await app.register(pgScope, { connectionString: DATABASE_URL, pool: { max: 6 } })
await app.ready()

let stop: () => Promise<void>
if (process.argv.includes('--boss')) {
  const boss = await startBossWorker(DATABASE_URL)
  boss.on('error', (error) => app.log.error({ err: error }))
  await workBoss(boss, app.db, deliver)
  stop = () => boss.stop({ graceful: true })
} else {
  const worker = new OutboxWorker(app.db, deliver, app.log)
  worker.start(4, 100)
  stop = () => worker.stop()
}
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => { stop().then(() => app.close()) })
