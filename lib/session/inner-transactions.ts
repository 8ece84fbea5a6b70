import type { Savepoint, Session } from '../../types/session.ts'
import { ObservedPromise, UnawaitedFailures } from '../observed-promise.ts'
import { type ClientTransaction, type ForLibraries, forLibraries } from '../library-session.ts'
import type { TransactionModes } from '../transaction-modes.ts'
import { asWorkOf } from '../pool/work-context.ts'
import { runInSession } from './current-session.ts'
import { BegunByClient } from './clients/begun-by-client.ts'
import { BegunTransaction } from './begun-transaction.ts'
import { BoundedTurns } from './clients/bounded-turns.ts'
import { maxWait, waitedTooLong } from './clients/client-errors.ts'
import { enterInside, fateInside, homeInside, runInside, sessionInside } from './inside-transaction.ts'
import { transactionEndedError } from './managed-session.ts'
import { type Fate, isUndone, throwIfUndone } from './savepoint.ts'
import type { ScopedSession } from './scoped-session.ts'
import { StreamTransactions } from './stream-transactions.ts'
import type { Reject } from './turns.ts'

const nothing = Promise.resolve()
const noop = (): void => {}

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
  /** The work around the running code may wait for the connection of this session. */
  begun (session: ScopedSession): void
  /** Why a client's transaction cannot begin any more, or null. @param waited it was called for before */
  lateError (waited: boolean): Error | null
}

/** The transaction that all later calls join until its end: of savepoint(), or of a client's BEGIN. */
interface Begun {
  readonly session: ScopedSession
  /** Its end is in progress: later calls wait for it. */
  readonly ending: Promise<void> | null
  /** Its end was called for. */
  readonly left: Promise<void> | null
  /** A client's transaction that begins now is inside of it. */
  readonly mayEnclose: boolean
  end (outcome: 'commit' | 'rollback'): Promise<void>
  /** The error of a session that ends without it having been ended. */
  unfinished (): Error
}

/**
 * The transactions inside an autocommit session: each transaction(fn) and each stream has one of its own. The one that
 * savepoint() begins is joined by all later calls.
 */
export class InnerTransactions {
  /** A call is being made that had to wait: it is accepted even if the session has begun to end meanwhile. */
  resumes = false
  readonly streams = new StreamTransactions(this)
  readonly #host: InnerTransactionsHost
  readonly #sessions = new Set<ScopedSession>()
  /** Each running transaction(fn). */
  readonly #calls = new Set<Promise<unknown>>()
  readonly #unawaited = new UnawaitedFailures()
  /** The first failure that no caller can be told of. */
  #loss: { readonly error: unknown } | null = null
  /** Until its end. */
  #begun: Begun | null = null
  /** BEGINs that wait for its end. */
  readonly #beginning = new BoundedTurns(maxWait, waitedTooLong, () => this.#begun?.session.isBusy === true)

  constructor (host: InnerTransactionsHost) {
    this.#host = host
  }

  /** A transaction is open. */
  get working (): boolean {
    return this.#sessions.size > 0
  }

  /** No transaction is open, no fn runs, and a success that is sent now has lost none. */
  get isUnused (): boolean {
    return this.#sessions.size === 0 && this.#calls.size === 0 && this.failure === null && !isUndone(fateInside(this))
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
    if (this.#loss !== null) return this.#loss
    const { first } = this.#unawaited
    return first === null && this.#begun?.left === null ? { error: this.#begun.unfinished() } : first
  }

  /** What becomes of the transaction(fn) in which the running code was called, or null if it is in none. */
  fateOfCaller (): Fate | null {
    return fateInside(this)
  }

  /** @param fate of the transaction(fn) from which a success is sent @throws why it is no success */
  throwLoss (fate: Fate | null): void {
    throwIfUndone(fate)
    if (this.failure !== null) throw this.failure.error
  }

  /** release() or rollback() of a begun transaction in progress, or null: later calls wait for it. */
  get ending (): Promise<void> | null {
    return this.#begun === null ? null : this.#begun.ending
  }

  open (): ScopedSession {
    const session = this.#newSession()
    this.#sessions.add(session)
    return session
  }

  #newSession (): ScopedSession {
    const session = this.#host.newSession()
    session.endIsAwaited = true
    return session
  }

  /** @param proceed starts what follows a begun transaction, before another one begins */
  ended (session: ScopedSession, proceed = noop): void {
    this.#sessions.delete(session)
    if (this.#begun?.session === session) {
      this.#begun = null
      proceed()
      this.#beginning.startAll()
    }
    this.#host.changed()
  }

  run<T> (fn: (session: Session) => Promise<T> | T): Promise<T> {
    return this.#observe(this.#run(fn))
  }

  /** Begins a transaction that all later calls join. */
  begin (name: string | undefined): Savepoint {
    const session = this.open()
    const begun = new BegunTransaction({
      observe: (work) => this.#observe(work),
      ended: () => this.ended(session)
    }, session, name)
    this.#begun = begun
    this.#host.begun(session)
    return begun
  }

  /** @param failed records the failure of a call outside of transactions */
  forLibraries (modes: TransactionModes, failed: (error: Error) => void): ForLibraries {
    const { callersSession } = this
    return {
      modes: callersSession?.[forLibraries].modes ?? modes,
      transaction: () => this.forClient(),
      invalid: (error) => callersSession === null ? failed(error) : callersSession.invalid(error)
    }
  }

  /**
   * A transaction for a client, which all later calls join once it has begun.
   *
   * @throws FST_PG_SCOPE_SESSION_CLOSED
   */
  forClient (): ClientTransaction {
    const around = this.callersSession
    const isBegun = around !== null && around === this.#begun?.session && !around.savepointCalls.isCallerInside
    if (around !== null && (!isBegun || this.#begun!.mayEnclose)) {
      return around[forLibraries].transaction(false, homeInside())
    }
    const late = this.#host.lateError(false)
    if (late !== null) throw late
    const session = this.#newSession()
    const own = new BegunByClient(session, {
      whenFree: (start, reject) => this.#whenFree(start, reject),
      began: () => {
        this.#sessions.add(session)
        this.#begun = own
        this.#host.begun(session)
      },
      ended: (proceed) => this.ended(session, proceed),
      report: (caller, error) => this.#report(caller, error),
      resume: (call) => this.#resume(call)
    })
    return session.savepointCalls.forClient(own)
  }

  #resume<T> (call: () => T): T {
    this.resumes = true
    try {
      return call()
    } finally {
      this.resumes = false
    }
  }

  #whenFree (start: () => void, reject: Reject): void {
    const late = this.#host.lateError(true)
    if (late !== null) reject(late)
    else if (this.#begun === null) start()
    else this.#beginning.add(() => this.#whenFree(start, reject), reject)
  }

  /** Makes a call behind the end of a begun transaction, or as part of it if it goes on. */
  behind<T> (call: () => Promise<T>): Promise<T> {
    const made = Promise.resolve(this.ending).then(() => this.#resume(call))
    this.#await(made)
    return made
  }

  /** The caller's commit() or rollback(). */
  settle (outcome: 'commit' | 'rollback'): Promise<void> {
    const session = this.callersSession
    const begun = this.#begun
    const isInside = session !== null && (session !== begun?.session || session.savepointCalls.isCallerInside)
    if (isInside) return session[outcome]()
    if (begun === null) return nothing
    return begun.ending ?? this.#observe(begun.end(outcome))
  }

  /** A failure that no caller receives. */
  lost (error: unknown): void {
    this.#loss ??= { error }
  }

  /** Rolls back all open transactions. @param reason the error of their statements that wait or run */
  async rollBack (reason?: Error): Promise<void> {
    await Promise.all(Array.from(this.#sessions, (session) => session.end('rollback', reason).catch(noop)))
    await this.leaveBegun()
  }

  /** Rolls back a begun transaction that is not being ended, and reports it as a failure. */
  async leaveBegun (): Promise<void> {
    while (this.#begun !== null) {
      if (this.#begun.left !== null) await this.#begun.left
      else {
        this.#loss ??= this.failure
        await this.#begun.end('rollback')
      }
    }
  }

  /** Work that the end of the session waits for, and whose failure it reports. */
  #observe<T> (work: Promise<T>): Promise<T> {
    const promise: ObservedPromise<T> = new ObservedPromise<T>((resolve, reject) => {
      work.then(resolve, (error) => {
        this.#report(promise, error)
        reject(error)
      })
    })
    this.#await(work)
    return promise
  }

  /** The end fails unless the promise is awaited before. */
  #report (promise: ObservedPromise<unknown>, error: unknown): void {
    if (this.#host.reportsFailures()) promise.silence()
    this.#unawaited.add(promise, error)
  }

  #await (work: Promise<unknown>): void {
    const call = work.then(noop, noop).finally(() => this.#calls.delete(call))
    this.#calls.add(call)
  }

  async #run<T> (fn: (session: Session) => Promise<T> | T): Promise<T> {
    const session = this.open()
    session.soleEnd = 'fn'
    const here = enterInside(this, session)
    try {
      const run = (): Promise<T> => runInSession(this.#host.engine, session, () => runInside(here, fn, session))
      const result = await asWorkOf(session, run)
      await session.end('commit', transactionEndedError())
      return result
    } catch (error) {
      here.undone = { error }
      await session.end('rollback', transactionEndedError()).catch(() => {})
      throw error
    } finally {
      this.ended(session)
    }
  }

  /** The session of the transaction that a call of the running code belongs to, or null. */
  get callersSession (): ScopedSession | null {
    const found = sessionInside(this)
    if (found !== null || this.#begun === null) return found
    const { ending, session } = this.#begun
    return ending === null || session.savepointCalls.isCallerInside ? session : null
  }
}
