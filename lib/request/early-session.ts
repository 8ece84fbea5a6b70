import type { RowStream, Savepoint, Session, SessionState, StreamOptions } from '../../types/session.ts'
import { type ForLibraries, forLibraries, type LibrarySession } from '../library-session.ts'
import type { ManagedSession } from '../session/managed-session.ts'

/** The request whose handler may have several attempts, each with a session of its own. */
export interface EarlySessionHost {
  readonly session: ManagedSession
  /** Null before the handler runs. */
  readonly attempts: object | null
}

/**
 * `request.db` in the hooks before a handler with `retry`: what they keep of it, a repository for example, works in
 * every attempt of the handler. What they register belongs to every attempt too.
 */
export class EarlySession implements Session {
  readonly #host: EarlySessionHost
  readonly #registrations: ((session: Session) => void)[] = []

  constructor (host: EarlySessionHost) {
    this.#host = host
  }

  /** Another attempt of the handler begins. */
  moveTo (session: Session): void {
    for (const register of this.#registrations) register(session)
  }

  get #session (): ManagedSession {
    return this.#host.session
  }

  get mode (): Session['mode'] {
    return this.#session.mode
  }

  get state (): SessionState {
    return this.#session.state
  }

  get attempt (): number {
    return this.#session.attempt
  }

  get writtenAt (): string | null {
    return this.#session.writtenAt
  }

  get signal (): AbortSignal {
    return this.#session.signal
  }

  get [forLibraries] (): ForLibraries {
    return (this.#session as ManagedSession & LibrarySession)[forLibraries]
  }

  query (text: any, values?: any, callback?: unknown): Promise<any> {
    return this.#session.query(text, (callback ?? values) as readonly unknown[])
  }

  notify (channel: string, payload?: string): Promise<void> {
    return this.#session.notify(channel, payload)
  }

  stream<R = any> (text: any, values?: any, options?: StreamOptions): RowStream<R> {
    return this.#session.stream<R>(text, values, options)
  }

  transaction<T> (fn: (session: Session) => Promise<T> | T): Promise<T> {
    return this.#session.transaction(fn)
  }

  savepoint (name?: string): Promise<Savepoint> {
    return this.#session.savepoint(name)
  }

  commit (): Promise<void> {
    return this.#session.commit()
  }

  rollback (): Promise<void> {
    return this.#session.rollback()
  }

  setRollbackOnly (reason?: string): void {
    this.#register((session) => session.setRollbackOnly(reason))
  }

  afterCommit (fn: () => unknown): void {
    this.#register((session) => session.afterCommit(fn))
  }

  afterRollback (fn: () => unknown): void {
    this.#register((session) => session.afterRollback(fn))
  }

  #register (register: (session: Session) => void): void {
    register(this.#session)
    if (this.#host.attempts === null) this.#registrations.push(register)
  }
}
