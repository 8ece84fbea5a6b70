import type { Refusal } from './program.ts'
import type { SavepointTarget, Target } from './target.ts'
import { ModelError, newLevel, oneByOne, TransactionModel, TransactionTarget } from './transaction-model.ts'

/** A session in mode 'autocommit': a statement by itself is saved, or fails alone. */
class AutocommitTarget implements Target {
  readonly #saved: number[]
  /** The transaction that savepoint() has begun, or that of the running transaction(fn). */
  #open: { work: TransactionModel, target: Target } | null = null

  constructor (saved: number[]) {
    this.#saved = saved
  }

  async insert (n: number): Promise<void> {
    if (this.#open !== null) return await this.#open.target.insert(n)
    this.#saved.push(n)
  }

  async fail (): Promise<void> {
    if (this.#open !== null) return await this.#open.target.fail()
    throw new ModelError(false)
  }

  async doom (): Promise<void> {
    if (this.#open !== null) return await this.#open.target.doom()
    throw new ModelError(false)
  }

  async conflict (): Promise<void> { await this.fail() }
  async cancel (): Promise<void> { await this.fail() }
  async refuse (how: Refusal): Promise<void> {
    if (this.#open !== null) return await this.#open.target.refuse(how)
    throw new ModelError(false)
  }

  async failingStream (): Promise<void> { await this.fail() }
  async stream (rows: number, take: number): Promise<void> { await this.#open?.target.stream(rows, take) }

  async read (): Promise<number[]> {
    return await this.#open?.target.read() ?? [...this.#saved].sort((a, b) => a - b)
  }

  async transaction (fn: (inner: Target) => Promise<void>): Promise<void> {
    if (this.#open !== null) return await this.#open.target.transaction(fn, false)
    const { work } = this.#begin()
    try {
      // Inside of fn, commit() and rollback() are refused: the transaction is a level around it.
      work.levels.push(newLevel('fn'))
      await fn(this)
      work.end()
    } finally {
      this.#open = null
    }
  }

  async savepoint (): Promise<SavepointTarget> {
    if (this.#open !== null) return await this.#open.target.savepoint()
    const { work } = this.#begin()
    const isEnded = (): boolean => this.#open?.work !== work
    const end = (ends: () => void) => async (): Promise<void> => {
      if (isEnded() || work.levels.length > 1) throw new ModelError(false)
      try {
        ends()
        this.#open = null
      } finally {
        this.#leaveIfRefused(work)
      }
    }
    return {
      release: end(() => {
        if (work.failure !== null) throw new ModelError(work.failure.isConflict)
        work.end()
      }),
      rollback: end(() => {}),
      dispose: async () => { if (!isEnded()) this.#open = null }
    }
  }

  async together (calls: readonly (() => Promise<void>)[]): Promise<void> {
    await oneByOne(calls)
  }

  async commit (): Promise<void> { await this.#settle('commit') }
  async rollback (): Promise<void> { await this.#settle('rollback') }

  async setRollbackOnly (): Promise<void> {
    if (this.#open === null) throw new ModelError(false)
    await this.#open.target.setRollbackOnly()
  }

  /** The end of the session with success. */
  end (): void {
    if (this.#open !== null) throw new ModelError(false)
  }

  get refuses (): boolean {
    return this.#open !== null && this.#open.work.failure !== null
  }

  #begin (): { work: TransactionModel } {
    const work = new TransactionModel(this.#saved)
    this.#open = { work, target: new TransactionTarget(work, 1) }
    return { work }
  }

  /** A COMMIT that the server has refused has ended its transaction. */
  #leaveIfRefused (work: TransactionModel): void {
    if (work.lost !== null && this.#open?.work === work) this.#open = null
  }

  /** Ends a transaction that savepoint() has begun; elsewhere there is nothing to do. */
  async #settle (outcome: 'commit' | 'rollback'): Promise<void> {
    const open = this.#open
    if (open === null) return
    try {
      await open.target[outcome]()
    } finally {
      this.#leaveIfRefused(open.work)
    }
    if (!open.work.levels.some(({ kind }) => kind === 'fn')) this.#open = null
  }
}

/** One attempt of a session. */
export class SessionModel {
  readonly saved: number[] = []
  readonly target: Target
  readonly #work: TransactionModel | AutocommitTarget

  constructor (mode: 'transaction' | 'autocommit', attempt: number) {
    if (mode === 'transaction') {
      this.#work = new TransactionModel(this.saved)
      this.target = new TransactionTarget(this.#work, attempt)
    } else this.target = this.#work = new AutocommitTarget(this.saved)
  }

  /** Its transaction has failed because of a concurrent one. */
  get isConflict (): boolean {
    return this.#work instanceof TransactionModel && this.#work.failure?.isConflict === true
  }

  /** A statement would be refused. */
  get refuses (): boolean {
    return this.#work instanceof TransactionModel ? this.#work.failure !== null : this.#work.refuses
  }

  /** The end of the session with success. @throws ModelError instead of the success */
  end (): void {
    this.#work.end()
  }
}
