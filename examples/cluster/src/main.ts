import cluster from 'node:cluster'
import { Fleet } from './fleet.ts'
import { advice, readLimit } from './limits.ts'
import { serve } from './server.ts'
import { readSettings } from './settings.ts'

try {
  const settings = await readSettings()
  if (cluster.isPrimary) await lead(settings)
  else await serve(settings)
} catch (error) {
  console.error(`The cluster cannot run: ${error instanceof Error ? error.message : String(error)}`)
  process.exitCode = 1
  cluster.worker?.disconnect()
}

async function lead ({ DATABASE_URL, WORKERS, POOL_MAX }: Awaited<ReturnType<typeof readSettings>>): Promise<void> {
  console.log(advice(WORKERS, POOL_MAX, await readLimit(DATABASE_URL)))
  const fleet = new Fleet(WORKERS)
  // npm passes on what the terminal has sent to all: stop() may be called more than once.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => { fleet.stop() })
  process.on('SIGHUP', () => { fleet.renew() })
  const { address, port } = await fleet.start()
  console.log(`${WORKERS} processes serve http://${address}:${port}. Ctrl-C stops them; kill -HUP ${process.pid} replaces them one by one.`)
}
