import { AsyncLocalStorage } from 'node:async_hooks'

/**
 * Up to Node 22, async contexts slow down every promise of the process: a request that reads one row takes 1/7
 * longer.
 */
const isCostly = Number(process.versions.node.split('.')[0]) < 24

/** Requests are not followed after this many of them in which the context was not needed. */
const trial = 1000

/**
 * An async context in which requests and other work run. Where contexts are costly, requests are no longer followed
 * after a while if none of them has needed the context.
 */
export class RequestContext<T> {
  readonly #contexts = new AsyncLocalStorage<T>()
  /** Requests since the start; -Infinity once the context was needed. */
  #requests = 0
  /** Running functions of runWork(). Contexts stay enabled while there are any. */
  #running = 0

  get current (): T | undefined {
    return this.#contexts.getStore()
  }

  /** Requests are followed from now on. */
  needed (): void {
    this.#requests = -Infinity
  }

  /** Begins to count anew. */
  restart (): void {
    this.#requests = 0
  }

  /** A request begins. @returns whether to set its context */
  follows (): boolean {
    if (!isCostly || ++this.#requests <= trial) return true
    if (this.#requests % trial === 1 && this.#running === 0) this.#contexts.disable()
    return false
  }

  run<R> (context: T, fn: () => R): R {
    return this.#contexts.run(context, fn)
  }

  /** Sets the context of the running code and of what it awaits. */
  enter (context: T): void {
    this.#contexts.enterWith(context)
  }

  /** run() for work that is not a request: the context is kept until it has ended. */
  async runWork<R> (context: T, fn: () => Promise<R> | R): Promise<R> {
    this.#running++
    try {
      return await this.#contexts.run(context, fn)
    } finally {
      this.#running--
    }
  }
}
