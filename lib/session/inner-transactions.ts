import { AsyncLocalStorage } from 'node:async_hooks'
import type { Savepoint, Session } from '../../types/session.ts'
import { ObservedPromise, UnawaitedFailures } from '../exchange/observed-promise.ts'
import { asWorkOf } from '../pool/work-context.ts'
import { runInSession } from './current-session.ts'
import { BegunTransaction } from './begun-transaction.ts'
import { transactionEndedError } from './managed-session.ts'
import type { ScopedSession } from './scoped-session.ts'

const nothing = Promise.resolve()

interface Inside {
  readonly owner: InnerTransactions
  readonly session: ScopedSession
  readonly enclosing: Inside | undefined
  /** It was rolled back: work that fn did not await has no transaction to belong to. */
  undone: boolean
}

/** The transaction(fn) of an autocommit session in which the running code was called. */
const inside = new AsyncLocalStorage<Inside>()

/** What the transactions need of their autocommit session. */
export interface InnerTransactionsHost {
  /** What stands for the engine in current-session.ts. */
  readonly engine: object
  /** Whether the end of the session reports a failure that no caller awaits. */
  reportsFailures (): boolean
  /** A session whose transaction begins with its first statement. */
  newSession (): ScopedSession
  /** A transaction has ended. */
  changed (): void
}

/**
 * The transactions inside an autocommit session: each transaction(fn) and each stream has one of its own. The one that
 * savepoint() begins is joined by all later calls.
 */
export class InnerTransactions {
  readonly #host: InnerTransactionsHost
  readonly #sessions = new Set<ScopedSession>()
  /** Each running transaction(fn). */
  readonly #calls = new Set<Promise<unknown>>()
  readonly #unawaited = new UnawaitedFailures()
  /** The transaction that savepoint() has begun, until its end. */
  #begun: BegunTransaction | null = null

  constructor (host: InnerTransactionsHost) {
    this.#host = host
  }

  /** A transaction is open. */
  get working (): boolean {
    return this.#sessions.size > 0
  }

  /** No transaction is open, and no fn runs. */
  get isEmpty (): boolean {
    return this.#sessions.size === 0 && this.#calls.size === 0
  }

  /** performance.now() when the oldest open transaction acquired its connection, or null. */
  get since (): number | null {
    let oldest: number | null = null
    for (const { since } of this.#sessions) if (since !== null && (oldest === null || since < oldest)) oldest = since
    return oldest
  }

  /** Each resolves when a transaction(fn) has ended. */
  get calls (): Iterable<Promise<unknown>> {
    return this.#calls
  }

  /** The first failure that no caller has awaited, or null. A transaction that was begun and not ended is one. */
  get failure (): { readonly error: unknown } | null {
    const { first } = this.#unawaited
    return first === null && this.#begun?.ending === null ? { error: this.#begun.unfinished() } : first
  }

  /** release() or rollback() of a begun transaction in progress, or null: later calls wait for it. */
  get ending (): Promise<void> | null {
    return this.#begun === null ? null : this.#begun.ending
  }

  open (): ScopedSession {
    const session = this.#host.newSession()
    session.endIsAwaited = true
    this.#sessions.add(session)
    return session
  }

  ended (session: ScopedSession): void {
    this.#sessions.delete(session)
    this.#host.changed()
  }

  run<T> (fn: (session: Session) => Promise<T> | T): Promise<T> {
    return this.#observe(this.#run(fn))
  }

  /** Begins a transaction that all later calls join. */
  begin (name: string | undefined): Savepoint {
    const session = this.open()
    this.#begun = new BegunTransaction({
      observe: (work) => this.#observe(work),
      ended: () => {
        this.#begun = null
        this.ended(session)
      }
    }, session, name)
    return this.#begun
  }

  /** The caller's commit() or rollback(). */
  settle (outcome: 'commit' | 'rollback'): Promise<void> {
    const session = this.callersSession
    const begun = this.#begun
    if (session !== null && (session !== begun?.session || session.isCallerInside)) return session[outcome]()
    if (begun === null) return nothing
    return begun.ending ?? this.#observe(begun.end(outcome))
  }

  /** Rolls back all open transactions. @param reason the error of their statements that wait or run */
  async rollBack (reason?: Error): Promise<void> {
    await Promise.all(Array.from(this.#sessions, (session) => session.end('rollback', reason).catch(() => {})))
    await this.leaveBegun()
  }

  /** Rolls back a begun transaction that is not being ended, and reports it as a failure. */
  async leaveBegun (): Promise<{ readonly error: unknown } | null> {
    await this.ending
    if (this.#begun === null) return null
    const { failure } = this
    await this.#begun.end('rollback')
    return failure
  }

  /** Work that the end of the session waits for, and whose failure it reports. */
  #observe<T> (work: Promise<T>): Promise<T> {
    const promise: ObservedPromise<T> = new ObservedPromise<T>((resolve, reject) => {
      work.then(resolve, (error) => {
        // The end fails unless the promise is awaited before.
        if (this.#host.reportsFailures()) promise.silence()
        this.#unawaited.add(promise, error)
        reject(error)
      })
    })
    const call = work.then(() => {}, () => {}).finally(() => this.#calls.delete(call))
    this.#calls.add(call)
    return promise
  }

  async #run<T> (fn: (session: Session) => Promise<T> | T): Promise<T> {
    const session = this.open()
    const here: Inside = { owner: this, session, enclosing: inside.getStore(), undone: false }
    try {
      const run = (): Promise<T> => runInSession(this.#host.engine, session, () => inside.run(here, fn, session))
      const result = await asWorkOf(session, run)
      await session.end('commit', transactionEndedError())
      return result
    } catch (error) {
      here.undone = true
      await session.end('rollback', transactionEndedError()).catch(() => {})
      throw error
    } finally {
      this.ended(session)
    }
  }

  /** The session of the transaction that a call of the running code belongs to, or null. */
  get callersSession (): ScopedSession | null {
    let found = inside.getStore()
    // Work that a committed transaction(fn) left behind is independent of it. After a rollback it is rejected.
    while (found !== undefined && (found.owner !== this || (found.session.isEnding && !found.undone))) {
      found = found.enclosing
    }
    if (found !== undefined || this.#begun === null) return found?.session ?? null
    const { ending, session } = this.#begun
    return ending === null || session.isCallerInside ? session : null
  }
}
