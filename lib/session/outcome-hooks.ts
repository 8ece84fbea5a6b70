import type { Savepoint } from './savepoint.ts'

interface Hook {
  readonly run: () => unknown
  /** What it was registered in, and goes with. */
  readonly savepoint: Savepoint | null
}

export interface HooksHost {
  /** Where the promises of hooks stand while they run, so that close() can wait for them. */
  readonly pending: Set<Promise<unknown>>
  /** Told of what a hook throws. */
  report (error: unknown, message: string): void
}

const none: Hook[] = []

/** What afterCommit and afterRollback registered, in order. */
export class OutcomeHooks {
  /** Most sessions have none. */
  #commit: Hook[] = none
  #rollback: Hook[] = none
  readonly #host: HooksHost

  constructor (host: HooksHost) {
    this.#host = host
  }

  afterCommit (run: () => unknown, savepoint: Savepoint | null = null): void {
    this.#commit = [...this.#commit, { run, savepoint }]
  }

  afterRollback (run: () => unknown, savepoint: Savepoint | null = null): void {
    this.#rollback = [...this.#rollback, { run, savepoint }]
  }

  committed (): void {
    const hooks = this.#commit
    this.#commit = this.#rollback = none
    this.#run(hooks)
  }

  /** All of it, or a savepoint and what stood in it. */
  rolledBack (savepoint?: Savepoint): void {
    if (this.#commit === none && this.#rollback === none) return
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
        failed(this.#host, error)
      }
    }
  }

  #follow (result: PromiseLike<unknown>): void {
    const { pending } = this.#host
    const promise = Promise.resolve(result).catch((error) => failed(this.#host, error)).finally(() => pending.delete(promise))
    pending.add(promise)
  }
}

function failed (host: HooksHost, error: unknown): void {
  host.report(error, 'a hook of afterCommit or afterRollback failed; nothing changes by it')
}
