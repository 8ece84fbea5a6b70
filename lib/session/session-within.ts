import type { RowStream, Session, SessionState, StreamOptions } from '../../types/session.ts'

/**
 * The session as fn of transaction(fn) is handed it: what is called on it belongs to that call, also from code that has lost its
 * async context, a callback of another library's timer say.
 */
export class SessionWithin implements Session {
  readonly #session: Session
  readonly #within: <T>(fn: () => T) => T

  /** @param within runs a function as a part of the call */
  constructor (session: Session, within: <T>(fn: () => T) => T) {
    this.#session = session
    this.#within = within
  }

  get state (): SessionState {
    return this.#session.state
  }

  get signal (): AbortSignal {
    return this.#session.signal
  }

  query (text: any, values?: readonly unknown[]): Promise<any> {
    return this.#within(() => this.#session.query(text, values))
  }

  stream<R = any> (text: string, values?: readonly unknown[], options?: StreamOptions): RowStream<R> {
    return this.#within(() => this.#session.stream<R>(text, values, options))
  }

  transaction<T> (fn: (session: Session) => Promise<T> | T): Promise<T> {
    return this.#within(() => this.#session.transaction(fn))
  }

  commit (): Promise<void> {
    return this.#within(() => this.#session.commit())
  }

  rollback (): Promise<void> {
    return this.#within(() => this.#session.rollback())
  }

  setRollbackOnly (reason?: string): void {
    this.#session.setRollbackOnly(reason)
  }

  afterCommit (fn: () => unknown): void {
    this.#within(() => this.#session.afterCommit(fn))
  }

  afterRollback (fn: () => unknown): void {
    this.#within(() => this.#session.afterRollback(fn))
  }
}
