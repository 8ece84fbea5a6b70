import { pgScopeError } from '../errors.ts'
import type { Session } from '../../types/session.ts'
import type { OutcomeHooks } from './outcome-hooks.ts'
import type { Savepoint, Savepoints } from './savepoint.ts'
import { SessionWithin } from './session-within.ts'
import { Statement } from './statement.ts'
import type { CursorStream } from './stream.ts'
import type { Transaction } from './transaction.ts'

const noop = (): void => {}

/** What a transaction(fn) needs of the session that it stands in. */
export interface Surroundings {
  readonly session: Session
  readonly savepoints: Savepoints
  readonly hooks: OutcomeHooks
  streams (): Iterable<CursorStream>
  transaction (): Transaction | null
  /** The error that keeps it from going on, or null. */
  failure (): Error | null
  /** Whoever's turn comes now comes too late. */
  gone (): boolean
  /** Its end has begun. */
  ending (): boolean
  /** What those are told who come too late. */
  closed (): Error
  /** Where failures go that came while only the session's end waited for them; null before it. */
  strays (): unknown[] | null
}

/** The calls of transaction(fn) in one session: each a savepoint, kept when fn resolves and undone when it rejects. */
export class Nesting {
  readonly #around: Surroundings

  constructor (around: Surroundings) {
    this.#around = around
  }

  run<T> (fn: (session: Session) => Promise<T> | T): Promise<T> {
    const around = this.#around
    const { savepoints } = around
    const promise = new Promise<T>((resolve, reject) => savepoints.inTurn(() => {
      const failure = around.gone() ? around.closed() : around.failure()
      if (failure !== null) {
        queueMicrotask(() => promise.catch(noop))
        return reject(failure)
      }
      savepoints.enter((savepoint) => this.#within(savepoint, fn).then((result) => {
        resolve(result)
        savepoints.leave(savepoint)
      }, (error) => {
        const strays = savepoint.parent === null ? around.strays() : savepoint.parent.strays
        strays?.push(error)
        // What is around it has ended and nobody awaits it any more: its failure becomes theirs.
        if (strays !== null || around.ending()) promise.catch(noop)
        reject(error)
        savepoints.leave(savepoint)
      }))
    }))
    return promise
  }

  async #within<T> (savepoint: Savepoint, fn: (session: Session) => Promise<T> | T): Promise<T> {
    const { session, savepoints, hooks } = this.#around
    try {
      const result = await fn(new SessionWithin(session, (fn) => savepoint.run(fn)))
      savepoint.strays = []
      await savepoints.innermost(savepoint)
      if (savepoint.strays.length > 0) throw savepoint.strays[0]
      await this.#keep(savepoint)
      return result
    } catch (error) {
      savepoint.strays ??= []
      await savepoints.innermost(savepoint)
      await this.#undo(savepoint, error)
      hooks.rolledBack(savepoint)
      throw error
    }
  }

  async #keep (savepoint: Savepoint): Promise<void> {
    const around = this.#around
    const transaction = around.transaction()
    if (transaction?.quiet === false) await transaction.settled()
    if (around.gone()) throw around.closed()
    const failure = around.failure()
    if (failure !== null) throw failure
    if (transaction !== null && savepoint.sentIn === transaction) around.savepoints.keep(savepoint)
  }

  /** ROLLBACK TO, after which the transaction is as it was before. Where that fails, the session stays failed. */
  async #undo (savepoint: Savepoint, cause: unknown): Promise<void> {
    const around = this.#around
    const transaction = around.transaction()
    if (transaction === null || savepoint.sentIn !== transaction) return
    await transaction.settled()
    if (around.gone() || transaction.over || transaction.lost) return
    around.savepoints.forget(savepoint)
    for (const stream of around.streams()) {
      if (stream.savepoint?.within(savepoint)) stream.gone(pgScopeError('FST_PG_SCOPE_TRANSACTION_ABORTED', 'The transaction(fn) that this stream was opened in was rolled back, and its cursor with it.', cause))
    }
    const failure = await transaction.run([new Statement(`ROLLBACK TO SAVEPOINT ${savepoint.name}`), new Statement(`RELEASE SAVEPOINT ${savepoint.name}`)])
    if (failure === null) transaction.recovered()
  }
}
