type Hook = () => unknown

/** What afterCommit and afterRollback registered, in order, and where each savepoint began. */
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

  afterCommit (fn: Hook): void {
    this.#commit.push(fn)
  }

  afterRollback (fn: Hook): void {
    this.#rollback.push(fn)
  }

  mark (): { commit: number, rollback: number } {
    return { commit: this.#commit.length, rollback: this.#rollback.length }
  }

  committed (): void {
    this.#rollback = []
    this.#run(this.#commit.splice(0))
  }

  /** All of it, or what came after a mark. */
  rolledBack (mark = { commit: 0, rollback: 0 }): void {
    this.#commit.length = mark.commit
    this.#run(this.#rollback.splice(mark.rollback))
  }

  #run (hooks: Hook[]): void {
    for (const hook of hooks) {
      try {
        const result = hook()
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
