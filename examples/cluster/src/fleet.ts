import cluster, { type Address, type Worker } from 'node:cluster'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'

/** A process that ends sooner than this is not replaced at once, for the next one would end as soon. Milliseconds. */
const early = 1000

/**
 * How long a process may take to answer what it has begun, before it is killed. Longer than the app's closeTimeout.
 * Milliseconds.
 */
const patience = 30_000

/** The worker processes: as many as were asked for, whatever becomes of each. */
export class Fleet {
  readonly #size: number
  /** Those that were told to end. */
  readonly #leaving = new Set<Worker>()
  #state: 'starting' | 'serving' | 'stopping' = 'starting'
  #renewal: Promise<void> | null = null

  constructor (size: number) {
    this.#size = size
  }

  /** Resolves when all of them serve. */
  async start (): Promise<Address> {
    const addresses = await Promise.all(Array.from({ length: this.#size }, () => this.#launch()))
    if (this.#state === 'starting') this.#state = 'serving'
    return addresses[0]!
  }

  /** Replaces them one by one: each new one serves before an old one ends, and no request is refused. */
  renew (): void {
    if (this.#state !== 'serving') return
    this.#renewal ??= this.#renew().finally(() => { this.#renewal = null })
  }

  /** Lets each answer what it has begun. */
  stop (): void {
    this.#state = 'stopping'
    for (const worker of this.#workers) this.#dismiss(worker).catch(() => {})
  }

  get #stopping (): boolean {
    return this.#state === 'stopping'
  }

  get #workers (): Worker[] {
    return Object.values(cluster.workers ?? {}).filter((worker) => worker !== undefined)
  }

  async #renew (): Promise<void> {
    for (const worker of this.#workers) {
      try {
        await this.#launch()
      } catch (error) {
        console.error(`The old processes go on: ${(error as Error).message}`)
        return
      }
      await this.#dismiss(worker)
    }
    console.log('All processes have been replaced.')
  }

  async #launch (): Promise<Address> {
    const began = Date.now()
    const worker = cluster.fork()
    const ended = once(worker, 'exit')
    const address = await Promise.race([
      once(worker, 'listening').then(([address]) => address as Address),
      ended.then(() => null)
    ])
    if (address === null) {
      if (this.#state === 'starting') this.#fail()
      throw new Error(`process ${worker.process.pid} ended before it served`)
    }
    ended.then(([code, signal]) => this.#ended(worker, code, signal, began))
    if (this.#stopping) this.#dismiss(worker).catch(() => {})
    return address
  }

  async #ended (worker: Worker, code: number | null, signal: string | null, began: number): Promise<void> {
    if (this.#leaving.delete(worker) || this.#stopping) return
    console.error(`Process ${worker.process.pid} has died (${signal ?? code}), and is replaced.`)
    if (Date.now() - began < early) await sleep(early)
    if (!this.#stopping) this.#launch().catch((error) => this.#ended(worker, null, String(error.message), Date.now()))
  }

  async #dismiss (worker: Worker): Promise<void> {
    this.#leaving.add(worker)
    const ended = once(worker, 'exit')
    worker.process.kill('SIGTERM')
    const timer = setTimeout(() => worker.process.kill('SIGKILL'), patience)
    await ended
    clearTimeout(timer)
  }

  #fail (): void {
    process.exitCode = 1
    this.stop()
  }
}
