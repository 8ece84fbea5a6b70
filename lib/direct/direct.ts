import type { FastifyBaseLogger } from 'fastify'
import type { ResolvedOptions } from '../config/options.ts'
import type { HeldLock, ListenOptions, LockOptions, Notification, Subscription } from '../../types/direct.ts'
import type { DirectHost } from './direct-connection.ts'
import { Listener } from './listener.ts'
import { SessionLocks } from './session-locks.ts'

/** What an engine waits for when it closes. */
interface Work {
  readonly pending: Set<Promise<unknown>>
  changed (): void
}

/** What an engine does on direct connections, outside of the pool. Nothing is opened before the first call. */
export class Direct {
  readonly #work: Work
  readonly #listener: Listener
  readonly #locks: SessionLocks

  constructor ({ client, direct, pool }: ResolvedOptions, work: Work, log: FastifyBaseLogger) {
    const host: DirectHost = {
      config: direct ?? client, timeout: pool.acquireTimeout, hasDirectUrl: direct !== null
    }
    this.#work = work
    this.#listener = new Listener(host, log)
    this.#locks = new SessionLocks(host)
  }

  listen (
    channel: string,
    receive: (payload: string, notification: Notification) => unknown,
    options: ListenOptions = {}
  ): Promise<Subscription> {
    return this.#listener.listen(channel, receive, options)
  }

  lock<T> (
    key: string | number | bigint, fn: (lock: HeldLock) => Promise<T> | T, options: LockOptions = {}
  ): Promise<T> {
    const { pending } = this.#work
    const result = this.#locks.lock(key, fn, options)
    const settled: Promise<void> = result.then(() => {}, () => {}).then(() => {
      pending.delete(settled)
      this.#work.changed()
    })
    pending.add(settled)
    return result
  }

  /** Functions that hold a lock are told to end. */
  stop (reason: Error): void {
    this.#locks.stop(reason)
  }

  async close (): Promise<void> {
    await Promise.all([this.#listener.close(), this.#locks.close()])
  }
}
