import type { RowStream, Savepoint, Session, SessionState, StreamOptions } from '../../types/session.ts'
import type { Writer } from '../exchange/written-position.ts'
import { type ForLibraries, forLibraries, type LibrarySession } from '../library-session.ts'
import { writer, type WritingSession } from './current-session.ts'
import { transactionEndedError } from './managed-session.ts'
import { rejected } from './rejected.ts'
import type { Frame } from './savepoint.ts'
import { failedStream } from './cursor-stream.ts'

/**
 * The session that transaction(fn) passes to fn. Calls on it belong to that transaction(fn), even from code that has
 * lost its async context, such as a timer callback of another library. It is closed when fn has settled.
 */
export class NestedSession implements Session {
  readonly #session: Session
  readonly #frame: Frame

  constructor (session: Session, frame: Frame) {
    this.#session = session
    this.#frame = frame
  }

  get #isOpen (): boolean {
    return this.#frame.fn === 'running'
  }

  get mode (): Session['mode'] {
    return this.#session.mode
  }

  get state (): SessionState {
    return this.#isOpen ? this.#session.state : 'closed'
  }

  get attempt (): number {
    return this.#session.attempt
  }

  get writtenAt (): string | null {
    return this.#session.writtenAt
  }

  get [writer] (): Writer {
    return (this.#session as Session & WritingSession)[writer]
  }

  get signal (): AbortSignal {
    return this.#session.signal
  }

  get [forLibraries] (): ForLibraries {
    const outer = (this.#session as Session & LibrarySession)[forLibraries]
    return {
      modes: outer.modes,
      transaction: () => {
        if (!this.#isOpen) throw transactionEndedError()
        return this.#frame.run(() => outer.transaction(false, this.#frame))
      },
      invalid: (error) => { if (this.#isOpen) this.#frame.run(() => outer.invalid(error)) }
    }
  }

  query (text: any, values?: readonly unknown[], callback?: unknown): Promise<any> {
    return this.#callAsync(() => this.#session.query(text, (callback ?? values) as readonly unknown[]))
  }

  notify (channel: string, payload?: string): Promise<void> {
    return this.#callAsync(() => this.#session.notify(channel, payload))
  }

  stream<R = any> (text: any, values?: any, options?: StreamOptions): RowStream<R> {
    if (!this.#isOpen) return failedStream(transactionEndedError()) as RowStream<R>
    return this.#frame.run(() => this.#session.stream<R>(text, values, options))
  }

  transaction<T> (fn: (session: Session) => Promise<T> | T): Promise<T> {
    return this.#callAsync(() => this.#session.transaction(fn))
  }

  savepoint (name?: string): Promise<Savepoint> {
    return this.#callAsync(() => this.#session.savepoint(name))
  }

  commit (): Promise<void> {
    return this.#callAsync(() => this.#session.commit())
  }

  rollback (): Promise<void> {
    return this.#callAsync(() => this.#session.rollback())
  }

  setRollbackOnly (reason?: string): void {
    this.#callSync(() => this.#session.setRollbackOnly(reason))
  }

  afterCommit (fn: () => unknown): void {
    this.#callSync(() => this.#session.afterCommit(fn))
  }

  afterRollback (fn: () => unknown): void {
    this.#callSync(() => this.#session.afterRollback(fn))
  }

  #callAsync<T> (call: () => Promise<T>): Promise<T> {
    return this.#isOpen ? this.#frame.run(call) : rejected(transactionEndedError())
  }

  #callSync (call: () => void): void {
    if (!this.#isOpen) throw transactionEndedError()
    this.#frame.run(call)
  }
}
