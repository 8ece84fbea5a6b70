import type { RowStream, Session, SessionState, StreamOptions } from '../../types/session.ts'
import { transactionEndedError } from './managed-session.ts'
import { rejected } from './rejected.ts'
import type { Savepoint } from './savepoints.ts'
import { refusedStream } from './cursor-stream.ts'

/**
 * The session as fn of transaction(fn) is handed it: what is called on it belongs to that call, also from code that has lost its
 * async context, a callback of another library's timer say. It is closed when fn has settled.
 */
export class NestedSession implements Session {
  readonly #session: Session
  readonly #savepoint: Savepoint

  constructor (session: Session, savepoint: Savepoint) {
    this.#session = session
    this.#savepoint = savepoint
  }

  get #open (): boolean {
    return this.#savepoint.fn === 'running'
  }

  get state (): SessionState {
    return this.#open ? this.#session.state : 'closed'
  }

  get signal (): AbortSignal {
    return this.#session.signal
  }

  query (text: any, values?: readonly unknown[], callback?: unknown): Promise<any> {
    return this.#promised(() => this.#session.query(text, (callback ?? values) as readonly unknown[]))
  }

  stream<R = any> (text: any, values?: any, options?: StreamOptions): RowStream<R> {
    if (!this.#open) return refusedStream(transactionEndedError()) as RowStream<R>
    return this.#savepoint.run(() => this.#session.stream<R>(text, values, options))
  }

  transaction<T> (fn: (session: Session) => Promise<T> | T): Promise<T> {
    return this.#promised(() => this.#session.transaction(fn))
  }

  commit (): Promise<void> {
    return this.#promised(() => this.#session.commit())
  }

  rollback (): Promise<void> {
    return this.#promised(() => this.#session.rollback())
  }

  setRollbackOnly (reason?: string): void {
    this.#now(() => this.#session.setRollbackOnly(reason))
  }

  afterCommit (fn: () => unknown): void {
    this.#now(() => this.#session.afterCommit(fn))
  }

  afterRollback (fn: () => unknown): void {
    this.#now(() => this.#session.afterRollback(fn))
  }

  #promised<T> (call: () => Promise<T>): Promise<T> {
    return this.#open ? this.#savepoint.run(call) : rejected(transactionEndedError())
  }

  #now (call: () => void): void {
    if (!this.#open) throw transactionEndedError()
    this.#savepoint.run(call)
  }
}
