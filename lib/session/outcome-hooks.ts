import type { Savepoint } from './savepoint.ts'

interface Hook {
  readonly run: () => unknown
  /** What it was registered in, and goes with. */
  readonly savepoint: Savepoint | null
}

/** What afterCommit and afterRollback registered, in order. */
export class OutcomeHooks {
  #commit: Hook[] = []
  #rollback: Hook[] = []
  readonly #failed: (error: unknown) => void
  readonly #pending: Set<Promise<unknown>>

  /**
   * @param failed told of what a hook throws; it changes nothing
   * @param pending where the promises of hooks stand while they run, so that close() can wait for them
   */
  constructor (failed: (error: unknown) => void, pending: Set<Promise<unknown>>) {
    this.#failed = failed
    this.#pending = pending
  }

  afterCommit (run: () => unknown, savepoint: Savepoint | null = null): void {
    this.#commit.push({ run, savepoint })
  }

  afterRollback (run: () => unknown, savepoint: Savepoint | null = null): void {
    this.#rollback.push({ run, savepoint })
  }

  committed (): void {
    this.#rollback = []
    this.#run(this.#commit.splice(0))
  }

  /** All of it, or a savepoint and what stood in it. */
  rolledBack (savepoint?: Savepoint): void {
    const gone = (hook: Hook): boolean => savepoint === undefined || hook.savepoint?.within(savepoint) === true
    const hooks = this.#rollback.filter(gone)
    this.#commit = this.#commit.filter((hook) => !gone(hook))
    this.#rollback = this.#rollback.filter((hook) => !gone(hook))
    this.#run(hooks)
  }

  #run (hooks: Hook[]): void {
    for (const { run } of hooks) {
      try {
        const result = run()
        if (typeof (result as PromiseLike<unknown> | undefined)?.then === 'function') this.#follow(result as PromiseLike<unknown>)
      } catch (error) {
        this.#failed(error)
      }
    }
  }

  #follow (result: PromiseLike<unknown>): void {
    const promise = Promise.resolve(result).catch(this.#failed).finally(() => this.#pending.delete(promise))
    this.#pending.add(promise)
  }
}
