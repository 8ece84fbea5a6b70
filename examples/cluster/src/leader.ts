import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'

/** The lock that the leader holds. All machines of the fleet have the same. */
const key = 'cluster-leader'

/** Until the next attempt after the lock was lost. Milliseconds. */
const interval = 1000

/** Whether this process leads: one of the whole fleet does, as long as it lives and is connected to PostgreSQL. */
export class Leadership {
  isLeading = false

  /** @param work what only one process may do. It ends when its signal aborts */
  constructor (app: FastifyInstance, work: (signal: AbortSignal) => Promise<unknown>) {
    const closing = new AbortController()
    app.addHook('preClose', async () => { closing.abort() })
    app.addHook('onReady', async () => {
      this.#run(app, work, closing.signal).catch((error) => app.log.error(error))
    })
  }

  async #run (
    app: FastifyInstance, work: (signal: AbortSignal) => Promise<unknown>, closing: AbortSignal
  ): Promise<void> {
    while (!closing.aborted) {
      try {
        await app.db.lock(key, async ({ signal }) => {
          this.isLeading = true
          app.log.info('this process leads')
          await work(signal)
        }, { signal: closing })
      } catch (error) {
        if (!closing.aborted) app.log.warn({ err: error }, 'this process does not lead')
      } finally {
        this.isLeading = false
      }
      await sleep(interval, undefined, { signal: closing }).catch(() => {})
    }
  }
}

/** The work of the leader here: nothing, until it ends. */
export async function untilAborted (signal: AbortSignal): Promise<void> {
  while (!signal.aborted) await sleep(interval, undefined, { signal }).catch(() => {})
}
