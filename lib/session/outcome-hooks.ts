import { bindToContext } from '../async-context.ts'
import { isPromiseLike } from '../kind-of.ts'
import type { Frame, Savepoint } from './savepoint.ts'

export interface Hook {
  readonly on: 'commit' | 'rollback'
  /** Runs the hook in the async context in which it was registered, even if a hang-up causes the outcome. */
  readonly run: () => unknown
  /** The savepoint in which it was registered; rolling back to that savepoint removes the hook. */
  savepoint: Savepoint | null
}

export interface HooksHost {
  /** The promises of running hooks: close() waits for them. */
  readonly pending: Set<Promise<unknown>>
  /** Logs an error that a hook threw. */
  report (error: unknown, message: string): void
}

const none: Hook[] = []

/** The functions registered by afterCommit and afterRollback, in the order of registration. */
export class OutcomeHooks {
  /** Allocated lazily: most sessions have no hooks. */
  #hooks: Hook[] = none
  readonly #host: HooksHost

  constructor (host: HooksHost) {
    this.#host = host
  }

  afterCommit (run: () => unknown, frame: Frame | null = null): Hook {
    return this.#add('commit', run, frame)
  }

  afterRollback (run: () => unknown, frame: Frame | null = null): Hook {
    return this.#add('rollback', run, frame)
  }

  /** @param frame the frame in which it was registered: its savepoint, unless the session sets another one */
  #add (on: Hook['on'], run: () => unknown, frame: Frame | null): Hook {
    if (this.#hooks === none) this.#hooks = []
    // When the hook runs, fn has settled: calls made by the hook belong to the code around transaction(fn).
    const bound = bindToContext(frame === null ? run : () => frame.outside(run))
    const hook: Hook = { on, run: bound, savepoint: frame }
    this.#hooks.push(hook)
    return hook
  }

  committed (): void {
    this.#run('commit', this.#take(0))
  }

  rolledBack (): void {
    this.#run('rollback', this.#take(0))
  }

  /**
   * Takes only the hooks that were registered in this savepoint or inside it; these follow all hooks registered before
   * it was opened.
   */
  savepointRolledBack (savepoint: Savepoint): void {
    if (this.#hooks.length <= savepoint.hooks) return
    const since = this.#take(savepoint.hooks)
    const isInside = (hook: Hook): boolean => hook.savepoint?.isWithin(savepoint) === true
    for (const hook of since) if (!isInside(hook)) this.#hooks.push(hook)
    this.#run('rollback', since.filter(isInside))
  }

  /** The number of registered hooks. */
  get count (): number {
    return this.#hooks.length
  }

  #take (from: number): Hook[] {
    if (this.#hooks === none) return none
    const taken = this.#hooks.splice(from)
    if (from === 0) this.#hooks = []
    return taken
  }

  #run (outcome: Hook['on'], hooks: Hook[]): void {
    for (const { on, run } of hooks) {
      if (on !== outcome) continue
      try {
        const result = run()
        if (isPromiseLike(result)) this.#follow(result)
      } catch (error) {
        reportFailure(this.#host, error)
      }
    }
  }

  #follow (result: PromiseLike<unknown>): void {
    const { pending } = this.#host
    const promise = Promise.resolve(result)
      .catch((error) => reportFailure(this.#host, error))
      .finally(() => pending.delete(promise))
    pending.add(promise)
  }
}

function reportFailure (host: HooksHost, error: unknown): void {
  host.report(error, 'an afterCommit or afterRollback hook failed; the outcome of the transaction is not affected')
}
