import { bindToContext } from '../async-context.ts'
import type { Savepoint } from './savepoints.ts'

interface Hook {
  readonly on: 'commit' | 'rollback'
  /** Runs it in the async context that it was registered in, whatever brings the outcome: a hang-up, say. */
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
  #hooks: Hook[] = none
  readonly #host: HooksHost

  constructor (host: HooksHost) {
    this.#host = host
  }

  afterCommit (run: () => unknown, savepoint: Savepoint | null = null): void {
    this.#add('commit', run, savepoint)
  }

  afterRollback (run: () => unknown, savepoint: Savepoint | null = null): void {
    this.#add('rollback', run, savepoint)
  }

  #add (on: Hook['on'], run: () => unknown, savepoint: Savepoint | null): void {
    if (this.#hooks === none) this.#hooks = []
    // By then fn is over: what the hook does belongs to what is around it.
    this.#hooks.push({ on, run: bindToContext(savepoint === null ? run : () => savepoint.outside(run)), savepoint })
  }

  committed (): void {
    this.#run('commit', this.#take(0))
  }

  rolledBack (): void {
    this.#run('rollback', this.#take(0))
  }

  /** Only what was registered in a savepoint, or inside of it: that came behind all that was there when it was opened. */
  undone (savepoint: Savepoint): void {
    if (this.#hooks.length <= savepoint.hooks) return
    const since = this.#take(savepoint.hooks)
    const gone = (hook: Hook): boolean => hook.savepoint?.within(savepoint) === true
    for (const hook of since) if (!gone(hook)) this.#hooks.push(hook)
    this.#run('rollback', since.filter(gone))
  }

  /** How many are registered. */
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
