import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'

/**
 * A try that takes longer gives its connections back, so that the load does not starve by the measurement.
 * Milliseconds.
 */
const patience = 600

/**
 * When as many sessions as the pool may have are in a transaction at the same time.
 *
 * @param from performance.now() from which it is counted
 * @param limit milliseconds
 * @returns milliseconds, or null where the limit has passed
 */
export async function fullStrength (app: FastifyInstance, from: number, limit: number): Promise<number | null> {
  while (performance.now() - from < limit) {
    if (await together(app)) return Math.round(performance.now() - from)
    await sleep(20)
  }
  return null
}

async function together (app: FastifyInstance): Promise<boolean> {
  const { max } = app.db.stats()
  const { promise: all, resolve: open } = barrier()
  const signal = AbortSignal.timeout(patience)
  let arrived = 0
  const sessions = Array.from({ length: max }, () => app.db.scope(async (session) => {
    await session.query('SELECT 1')
    if (++arrived === max) open()
    await all
  }, { signal }).catch(open))
  await Promise.all(sessions)
  return arrived === max
}

function barrier (): { promise: Promise<void>, resolve: () => void } {
  let resolve!: () => void
  const promise = new Promise<void>((_resolve) => { resolve = _resolve })
  return { promise, resolve }
}
