import { AsyncLocalStorage } from 'node:async_hooks'
import { isClosedOrCanceled, noFunction, pgScopeError } from '../errors.ts'
import { asWorkOf } from '../pool/work-context.ts'
import { ArraySet } from '../array-set.ts'
import type { RowStream, Session, StreamOptions } from '../../types/session.ts'
import { type ManagedSession, type Outcome, sessionClosedError, type SessionHost, transactionEndedError } from './managed-session.ts'
import { ObservedPromise, UnawaitedFailures } from '../exchange/observed-promise.ts'
import { asError } from '../exchange/transaction-errors.ts'
import { OutcomeHooks } from './outcome-hooks.ts'
import { ScopedSession } from './scoped-session.ts'
import { type TransactionConfig, mergeSettings, type Settings, settingStatement } from '../exchange/transaction-config.ts'
import { rejected } from './rejected.ts'
import { SingleStatement } from '../exchange/single-statement.ts'
import { readStatement } from '../exchange/read-statement.ts'

interface Inside {
  readonly owner: AutocommitSession
  readonly session: ScopedSession
  readonly enclosing: Inside | undefined
  /** It was rolled back: work that fn did not await has no transaction to belong to. */
  undone: boolean
}

/** The transaction(fn) of an autocommit session in which the running code was called. */
const inside = new AsyncLocalStorage<Inside>()

const nothing = Promise.resolve()
const noSettings = mergeSettings()

/**
 * A session in `mode: 'autocommit'`: nothing stays open between statements, and transaction(fn) is a real transaction.
 */
export class AutocommitSession implements ManagedSession {
  readonly since = null
  arraySetIndex = -1
  onForcedClose: ManagedSession['onForcedClose']
  readonly losesNothing = false
  readonly nothingAwaited = true
  endIsAwaited: boolean
  readonly rollbackOnly = false
  readonly #host: SessionHost
  readonly #statementConfig: TransactionConfig
  readonly #transactionConfig: TransactionConfig
  readonly #requestSettings: (() => Settings | Promise<Settings>) | undefined
  readonly #label: string | undefined
  readonly #hooks: OutcomeHooks
  readonly #running = new ArraySet<SingleStatement>()
  /** The running transaction(fn) calls. Allocated lazily, like the two below. */
  #inner: Set<Promise<unknown>> | null = null
  #sessions: Set<ScopedSession> | null = null
  #streams: Set<RowStream> | null = null
  /** The first failed COMMIT of a stream. */
  #failure: { readonly error: unknown } | null = null
  /** Failures of transaction(fn) that no caller has awaited. */
  #unawaited: UnawaitedFailures | null = null
  firstFailure: unknown = null
  #watchers: (() => void)[] = []
  #end: Promise<void> | null = null
  #reason: Error | undefined
  #controller: AbortController | null = null

  /**
   * @param statement how a statement by itself is sent
   * @param transaction how transaction(fn) and stream() begin
   */
  constructor (host: SessionHost, statement: TransactionConfig, transaction: TransactionConfig, requestSettings?: () => Settings | Promise<Settings>, label?: string) {
    this.#label = label
    this.endIsAwaited = label !== undefined
    this.#host = host
    this.#statementConfig = statement
    this.#transactionConfig = transaction
    this.#requestSettings = requestSettings
    this.#hooks = new OutcomeHooks(host)
  }

  get state (): Session['state'] {
    if (this.#end !== null) return this.working ? 'settling' : 'closed'
    return this.working ? 'active' : 'idle'
  }

  /** A failed statement does not affect the session; a transaction(fn) that failed and is not awaited does. */
  get failure (): Error | null {
    const failure = this.#failure ?? this.#unawaited?.first ?? null
    return failure === null ? null : asError(failure.error)
  }

  get working (): boolean {
    return this.#running.size > 0 || (this.#sessions !== null && this.#sessions.size > 0)
  }

  get signal (): AbortSignal {
    this.#controller ??= new AbortController()
    if (this.#end !== null) this.#controller.abort(this.#reason)
    return this.#controller.signal
  }

  get isClosed (): boolean {
    return this.#end !== null
  }

  get unused (): boolean {
    return !this.working && (this.#inner === null || this.#inner.size === 0) && this.failure === null
  }

  get streaming (): boolean {
    return this.#streams !== null && this.#streams.size > 0
  }

  query (text: unknown, values?: readonly unknown[], callback?: unknown): Promise<any> {
    const inner = this.#inside()
    if (inner !== null) return inner.query(text, values, callback)
    if (this.#end !== null) return rejected(this.#closedError())
    try {
      const call = readStatement(text, callback ?? values, true)
      this.#host.vet(call.text)
      // A text of several statements cannot share a Sync with a setting. It is one transaction in any case.
      if (call.several && (this.#requestSettings !== undefined || settingStatement(this.#statementConfig, noSettings) !== null)) {
        return this.transaction((session) => session.query(text as string, values))
      }
      const single = new SingleStatement(this.#host, call, this.#statementConfig, this.#label, (single, error) => {
        this.#running.delete(single)
        if (error !== null) this.#recordFailure(error)
        this.#changed()
      })
      const settings = this.#requestSettings?.()
      this.#running.add(single)
      call.signal?.listen((error) => single.cancel(error))
      single.start(settings)
      return call.promise
    } catch (error) {
      return this.#rejected(error)
    }
  }

  stream<R = any> (text: any, values?: any, options?: StreamOptions): RowStream<R> {
    const inner = this.#inside()
    if (inner !== null) return inner.stream(text, values, options)
    if (this.#end !== null) throw this.#closedError()
    const session = this.#open()
    const stream = session.stream<R>(text, values, options)
    const streams = this.#streams ??= new Set()
    streams.add(stream)
    stream.once('close', () => {
      streams.delete(stream)
      if (stream.errored !== null && stream.errored.name !== 'AbortError') this.#recordFailure(stream.errored)
      session.end(stream.errored === null ? 'commit' : 'rollback').catch((error) => {
        // Before the end no caller would receive the error.
        if (this.#end === null) this.#host.report(error, 'the transaction of a stream could not be committed')
        this.#failure ??= { error }
      }).finally(() => this.#sessionEnded(session))
    })
    return stream
  }

  transaction<T> (fn: (session: Session) => Promise<T> | T): Promise<T> {
    const inner = this.#inside()
    if (inner !== null) return inner.transaction(fn)
    if (this.#end !== null) return rejected(this.#closedError())
    if (typeof fn !== 'function') return this.#rejected(noFunction('transaction', fn))
    const unawaited = this.#unawaited ??= new UnawaitedFailures()
    const work = this.#transaction(fn)
    const promise: ObservedPromise<T> = new ObservedPromise<T>((resolve, reject) => {
      work.then(resolve, (error) => {
        // The end fails unless the promise is awaited before.
        if (this.endIsAwaited || this.#end !== null) promise.silence()
        unawaited.add(promise, error)
        reject(error)
      })
    })
    const inside = this.#inner ??= new Set()
    const over = work.then(() => {}, () => {}).finally(() => inside.delete(over))
    inside.add(over)
    return promise
  }

  /** Every statement is committed already. */
  async commit (): Promise<void> {
    await this.#inside()?.commit()
  }

  /** Outside transaction(fn) there is nothing to roll back. */
  async rollback (): Promise<void> {
    await this.#inside()?.rollback()
  }

  setRollbackOnly (reason?: string): void {
    const inner = this.#inside()
    if (inner === null) throw pgScopeError('FST_PG_SCOPE_SESSION_STATE', 'setRollbackOnly() was called in mode \'autocommit\', where each statement is committed already. Use transaction(fn), or mode \'transaction\'.')
    inner.setRollbackOnly(reason)
  }

  afterCommit (fn: () => unknown): void {
    const inner = this.#inside()
    if (inner !== null) return inner.afterCommit(fn)
    this.#hooks.afterCommit(fn)
    this.#hooks.committed()
  }

  afterRollback (fn: () => unknown): void {
    this.#inside()?.afterRollback(fn)
  }

  async settle (outcome: Outcome): Promise<void> {
    if (outcome === 'rollback') return
    await this.#allSettled()
    const failure = this.#failure ?? this.#unawaited?.first ?? null
    if (failure !== null) throw failure.error
  }

  end (outcome: Outcome, reason?: Error): Promise<void> {
    this.#reason ??= reason
    // The settings that a statement waits for may never arrive.
    if (outcome === 'rollback') this.#dropUnsent()
    if (this.#end !== null) {
      // The end is waiting for statements, which are cancelled now.
      if (outcome === 'rollback' && reason !== undefined) this.abort(reason)
      return this.#end
    }
    if (this.unused) {
      // The fast path of #finish(): the end of nearly every session.
      this.#end = nothing
      this.#ended()
    } else this.#end = this.#finish(outcome, reason)
    return this.#end
  }

  close (): Promise<void> {
    return this.end('rollback')
  }

  [Symbol.asyncDispose] (): Promise<void> {
    return this.close()
  }

  /** Resolves when no statement or transaction is in progress. */
  async settled (): Promise<void> {
    while (this.working) await new Promise<void>((resolve) => this.#watchers.push(resolve))
  }

  /** Ends the streams, and resolves when all calls have settled. */
  async #allSettled (): Promise<void> {
    for (const stream of this.#streams ?? []) stream.destroy()
    await Promise.all([this.settled(), ...this.#inner ?? []])
  }

  /** Cancels everything that runs. */
  async abort (reason: Error): Promise<void> {
    this.#reason = reason
    await Promise.all([
      ...Array.from(this.#running, (single) => single.cancel(reason)),
      ...Array.from(this.#sessions ?? [], (session) => session.end('rollback', reason).catch(() => {}))
    ])
  }

  async #finish (outcome: Outcome, reason?: Error): Promise<void> {
    if (reason !== undefined) await this.abort(reason)
    else if (outcome === 'commit') await this.#allSettled()
    else {
      await Promise.all(Array.from(this.#sessions ?? [], (session) => session.end('rollback').catch(() => {})))
      await this.settled()
    }
    this.#ended()
    const failure = this.#failure ?? this.#unawaited?.first ?? null
    if (outcome === 'commit' && failure !== null) throw failure.error
  }

  /** A statement has failed; the session continues. */
  #recordFailure (error: unknown): void {
    if (this.#label !== undefined && !isClosedOrCanceled(error)) this.firstFailure ??= error
  }

  /**
   * Rejects a call before it is sent. The end of a request reports the error; outside requests only the rejection does.
   */
  #rejected (error: unknown): Promise<never> {
    if (this.#label === undefined) return Promise.reject(error)
    this.#recordFailure(error)
    return rejected(error)
  }

  /** Cancels statements that wait for `settings(request)` or `role(request)`. */
  #dropUnsent (): void {
    for (const single of this.#running) if (single.awaitsSettings) single.cancel(this.#closedError())
  }

  #ended (): void {
    this.#controller?.abort(this.#reason)
    this.#host.ended(this)
  }

  async #transaction<T> (fn: (session: Session) => Promise<T> | T): Promise<T> {
    const session = this.#open()
    const here: Inside = { owner: this, session, enclosing: inside.getStore(), undone: false }
    try {
      const result = await asWorkOf(session, () => inside.run(here, fn, session))
      await session.end('commit', transactionEndedError())
      return result
    } catch (error) {
      here.undone = true
      await session.end('rollback', transactionEndedError()).catch(() => {})
      throw error
    } finally {
      this.#sessionEnded(session)
    }
  }

  #open (): ScopedSession {
    const session = new ScopedSession({ ...this.#host, ended: () => {} }, this.#transactionConfig, this.#requestSettings, this.#label)
    session.endIsAwaited = true
    this.#sessions ??= new Set()
    this.#sessions.add(session)
    return session
  }

  #sessionEnded (session: ScopedSession): void {
    this.#sessions!.delete(session)
    this.#changed()
  }

  #inside (): ScopedSession | null {
    let found = inside.getStore()
    // What a transaction(fn) left behind that has ended well stands alone; behind one that was rolled back it is
    // refused.
    while (found !== undefined && (found.owner !== this || (found.session.ending && !found.undone))) found = found.enclosing
    return found?.session ?? null
  }

  #changed (): void {
    for (const watcher of this.#watchers.splice(0)) watcher()
  }

  #closedError (): Error {
    return this.#reason ?? sessionClosedError()
  }
}
