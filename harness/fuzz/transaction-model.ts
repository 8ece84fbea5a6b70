import type { SavepointTarget, Target } from './target.ts'

/** An error of the model. */
export class ModelError extends Error {
  /** It is a serialization failure, or was caused by one. */
  readonly isConflict: boolean

  constructor (isConflict: boolean) {
    super('by the model')
    this.isConflict = isConflict
  }
}

/** One level of the work: the transaction, a transaction(fn) or a savepoint(), with what it has written. */
interface Level {
  readonly kind: 'transaction' | 'fn' | 'savepoint'
  rows: number[]
  /** COMMIT will be refused. */
  doomed: boolean
}

export const newLevel = (kind: Level['kind']): Level => ({ kind, rows: [], doomed: false })

/** The work of one transaction after another, in memory. `saved` is what is committed. */
export class TransactionModel {
  readonly saved: number[]
  levels: Level[] = [newLevel('transaction')]
  /** Why statements are refused, or null. */
  failure: ModelError | null = null
  /** A commit() has failed, and no call has followed it. */
  lost: ModelError | null = null
  rollbackOnly = false

  constructor (saved: number[]) {
    this.saved = saved
  }

  get top (): Level {
    return this.levels.at(-1)!
  }

  /** A call that a failed transaction refuses. */
  call (): void {
    this.lost = null
    if (this.failure !== null) throw new ModelError(this.failure.isConflict)
  }

  fail (isConflict: boolean): never {
    this.call()
    this.failure = new ModelError(isConflict)
    throw this.failure
  }

  /** A call that is not done at all has an error of its own. */
  refuse (): never {
    this.lost = null
    this.failure ??= new ModelError(false)
    throw new ModelError(false)
  }

  /** Ends the levels inside of `level`, and itself. */
  keep (level: Level): void {
    for (const { rows, doomed } of this.levels.splice(this.levels.indexOf(level))) {
      this.top.rows.push(...rows)
      this.top.doomed ||= doomed
    }
  }

  undo (level: Level): void {
    this.levels.splice(this.levels.indexOf(level))
    this.failure = null
  }

  reset (): void {
    this.levels = [newLevel('transaction')]
    this.failure = null
  }

  /** COMMIT, at the end or by hand. It ends all savepoints. */
  commit (): void {
    if (this.levels.length > 1) this.keep(this.levels[1]!)
    if (this.failure !== null) throw new ModelError(this.failure.isConflict)
    if (this.rollbackOnly) throw new ModelError(false)
    const { rows, doomed } = this.top
    this.reset()
    if (doomed) {
      this.lost = new ModelError(false)
      throw this.lost
    }
    this.saved.push(...rows)
  }

  /** The end of the session with success. */
  end (): void {
    if (this.rollbackOnly) return
    if (this.lost !== null) throw this.lost
    this.commit()
  }
}

/** Calls inside of a transaction. */
export class TransactionTarget implements Target {
  readonly #work: TransactionModel
  readonly #attempt: number

  constructor (work: TransactionModel, attempt: number) {
    this.#work = work
    this.#attempt = attempt
  }

  async insert (n: number): Promise<void> {
    this.#work.call()
    this.#work.top.rows.push(n)
  }

  async doom (): Promise<void> {
    this.#work.call()
    this.#work.top.doomed = true
  }

  async fail (): Promise<void> { this.#work.fail(false) }
  async conflict (): Promise<void> { this.#attempt === 1 ? this.#work.fail(true) : this.#work.call() }
  async cancel (): Promise<void> { this.#work.fail(false) }
  async refuse (): Promise<void> { this.#work.refuse() }
  async stream (): Promise<void> { this.#work.call() }
  async failingStream (): Promise<void> { this.#work.fail(false) }

  async read (): Promise<number[]> {
    this.#work.call()
    return [...this.#work.saved, ...this.#work.levels.flatMap(({ rows }) => rows)].sort((a, b) => a - b)
  }

  async transaction (fn: (inner: Target) => Promise<void>): Promise<void> {
    const work = this.#work
    work.call()
    const level = newLevel('fn')
    work.levels.push(level)
    try {
      await fn(this)
      if (work.failure !== null) throw new ModelError(work.failure.isConflict)
      work.keep(level)
    } catch (error) {
      work.undo(level)
      throw error
    }
  }

  async savepoint (): Promise<SavepointTarget> {
    const work = this.#work
    work.call()
    const level = newLevel('savepoint')
    work.levels.push(level)
    const end = (ends: () => void) => async (): Promise<void> => {
      work.lost = null
      if (work.top !== level) throw new ModelError(false)
      ends()
    }
    return {
      release: end(() => {
        if (work.failure !== null) throw new ModelError(work.failure.isConflict)
        work.keep(level)
      }),
      rollback: end(() => work.undo(level)),
      async dispose () {
        if (work.levels.includes(level)) work.undo(level)
      }
    }
  }

  async together (calls: readonly (() => Promise<void>)[]): Promise<void> {
    await oneByOne(calls)
  }

  async commit (): Promise<void> {
    this.#work.lost = null
    if (this.#isInside) this.#work.refuse()
    this.#work.commit()
  }

  async rollback (): Promise<void> {
    if (this.#isInside) this.#work.refuse()
    this.#work.reset()
    this.#work.lost = null
  }

  async setRollbackOnly (): Promise<void> { this.#work.rollbackOnly = true }

  get #isInside (): boolean {
    return this.#work.levels.some(({ kind }) => kind === 'fn')
  }
}

export async function oneByOne (calls: readonly (() => Promise<void>)[]): Promise<void> {
  let first: { error: unknown } | null = null
  for (const call of calls) await call().catch((error) => { first ??= { error } })
  if (first !== null) throw (first as { error: unknown }).error
}
