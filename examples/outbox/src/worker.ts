import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyBaseLogger } from 'fastify'
import type { Engine } from 'fastify-pg-scope'
import { deliverNext, postpone, type Deliver, type OutboxEvent } from './outbox.ts'

/** Delivers the events of the outbox by itself, several keys side by side. */
export class OutboxWorker {
  readonly #db: Engine
  readonly #deliver: Deliver
  readonly #log: FastifyBaseLogger
  readonly #stopping = new AbortController()
  #loops: Promise<void>[] = []

  constructor (db: Engine, deliver: Deliver, log: FastifyBaseLogger) {
    this.#db = db
    this.#deliver = deliver
    this.#log = log
  }

  /** @param pollInterval how long it rests when there was nothing to do, in milliseconds */
  start (concurrency: number, pollInterval: number): void {
    this.#loops = Array.from({ length: concurrency }, () => this.#loop(pollInterval))
  }

  /** Resolves when what is being delivered is done. */
  async stop (): Promise<void> {
    this.#stopping.abort()
    await Promise.all(this.#loops)
  }

  async #loop (pollInterval: number): Promise<void> {
    const { signal } = this.#stopping
    while (!signal.aborted) {
      const found = await this.#one().catch((error) => {
        this.#log.error({ err: error }, 'the outbox could not be read')
        return false
      })
      if (!found) await sleep(pollInterval, undefined, { signal }).catch(() => {})
    }
  }

  async #one (): Promise<boolean> {
    let current: OutboxEvent | undefined
    try {
      return await this.#db.scope((session) => deliverNext(session, (event) => {
        current = event
        return this.#deliver(event)
      }))
    } catch (error) {
      if (current === undefined) throw error
      const event = current
      this.#log.warn({ err: error, id: event.id, key: event.key }, 'an event was not delivered: it will be tried again')
      await this.#db.scope((session) => postpone(session, event))
      return true
    }
  }
}
