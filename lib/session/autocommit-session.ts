import { isClosedOrCanceled, noFunction, pgScopeError } from '../errors.ts'
import { ArraySet } from '../array-set.ts'
import type { RowStream, Savepoint, Session, StreamOptions } from '../../types/session.ts'
import type { ManagedSession, Outcome, SessionHost } from './managed-session.ts'
import { Changes } from '../changes.ts'
import { InnerTransactions } from './inner-transactions.ts'
import { enterWorkOf } from '../pool/work-context.ts'
import { invalidName } from './imperative-savepoint.ts'
import { SessionBase } from './session-base.ts'
import { asError } from '../exchange/transaction-errors.ts'
import { failedStream } from './cursor-stream.ts'
import { OutcomeHooks } from './outcome-hooks.ts'
import { ScopedSession } from './scoped-session.ts'
import {
  mergeSettings, type Settings, settingStatement, type TransactionConfig
} from '../exchange/transaction-config.ts'
import { rejected } from './rejected.ts'
import { SingleStatement } from '../exchange/single-statement.ts'
import { readStatement } from '../exchange/read-statement.ts'

const nothing = Promise.resolve()
const noSettings = mergeSettings()

/**
 * A session in `mode: 'autocommit'`: nothing stays open between statements, and transaction(fn) is a real transaction.
 */
export class AutocommitSession extends SessionBase implements ManagedSession {
  readonly losesNothing = false
  readonly nothingAwaited = true
  endIsAwaited: boolean
  readonly rollbackOnly = false
  readonly resting = null
  readonly #statementConfig: TransactionConfig
  readonly #transactionConfig: TransactionConfig
  readonly #requestSettings: (() => Settings | Promise<Settings>) | undefined
  readonly #hooks: OutcomeHooks
  readonly #running = new ArraySet<SingleStatement>()
  /** Allocated lazily, like the streams. */
  #inner: InnerTransactions | null = null
  #streams: Set<RowStream> | null = null
  /** The first failed COMMIT of a stream. */
  #failure: { readonly error: unknown } | null = null
  firstFailure: unknown = null
  readonly #changes = new Changes()

  /**
   * @param statement how a statement by itself is sent
   * @param transaction how transaction(fn) and stream() begin
   */
  constructor (
    host: SessionHost, statement: TransactionConfig, transaction: TransactionConfig,
    requestSettings?: () => Settings | Promise<Settings>, label?: string
  ) {
    super(host, label)
    this.endIsAwaited = label !== undefined
    this.#statementConfig = statement
    this.#transactionConfig = transaction
    this.#requestSettings = requestSettings
    this.#hooks = new OutcomeHooks(host)
  }

  get mode (): Session['mode'] {
    return 'autocommit'
  }

  get state (): Session['state'] {
    if (this.ending !== null) return this.working ? 'settling' : 'closed'
    return this.working ? 'active' : 'idle'
  }

  /** A failed statement does not affect the session; a transaction(fn) that failed and is not awaited does. */
  get failure (): Error | null {
    return this.#firstLoss === null ? null : asError(this.#firstLoss.error)
  }

  get #firstLoss (): { readonly error: unknown } | null {
    return this.#failure ?? this.#inner?.failure ?? null
  }

  get since (): number | null {
    return this.#inner?.since ?? null
  }

  get working (): boolean {
    return this.#running.size > 0 || this.#inner?.working === true
  }

  get isClosed (): boolean {
    return this.ending !== null
  }

  get unused (): boolean {
    return this.#running.size === 0 && this.#inner?.isEmpty !== false && this.failure === null
  }

  get streaming (): boolean {
    return this.#streams !== null && this.#streams.size > 0
  }

  query (text: unknown, values?: readonly unknown[], callback?: unknown): Promise<any> {
    const inner = this.#callersSession
    if (inner !== null) return inner.query(text, values, callback)
    const before = this.#inner?.ending
    if (before) return before.then(() => this.query(text, values, callback))
    if (this.ending !== null) return rejected(this.closedError())
    try {
      const call = readStatement(text, callback ?? values, true)
      this.host.vet(call.text)
      // A text of several statements cannot share a Sync with a setting. It is one transaction in any case.
      if (call.several && this.#sendsSettings) {
        return this.transaction((session) => session.query(text as string, values))
      }
      const single = new SingleStatement(this.host, call, this.#statementConfig, this.label, (single, error) => {
        this.#running.delete(single)
        if (error !== null) this.#recordFailure(error)
        this.#changes.announce()
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

  get #sendsSettings (): boolean {
    return this.#requestSettings !== undefined || settingStatement(this.#statementConfig, noSettings) !== null
  }

  stream<R = any> (text: any, values?: any, options?: StreamOptions): RowStream<R> {
    const inner = this.#callersSession
    if (inner !== null) return inner.stream(text, values, options)
    if (this.ending !== null) return failedStream(this.closedError()) as RowStream<R>
    const transactions = this.#transactions
    const session = transactions.open()
    const stream = session.stream<R>(text, values, options)
    const streams = this.#streams ??= new Set()
    streams.add(stream)
    stream.once('close', () => {
      streams.delete(stream)
      if (stream.errored !== null && stream.errored.name !== 'AbortError') this.#recordFailure(stream.errored)
      session.end(stream.errored === null ? 'commit' : 'rollback').catch((error) => {
        // Before the end no caller would receive the error.
        if (this.ending === null) this.host.report(error, 'the transaction of a stream could not be committed')
        this.#failure ??= { error }
      }).finally(() => transactions.ended(session))
    })
    return stream
  }

  transaction<T> (fn: (session: Session) => Promise<T> | T): Promise<T> {
    const inner = this.#callersSession
    if (inner !== null) return inner.transaction(fn)
    const before = this.#inner?.ending
    if (before) return before.then(() => this.transaction(fn))
    if (this.ending !== null) return rejected(this.closedError())
    if (typeof fn !== 'function') return this.#rejected(noFunction('transaction', fn))
    return this.#transactions.run(fn)
  }

  /** Begins a transaction that all later calls join until it is released or rolled back. */
  savepoint (name?: string): Promise<Savepoint> {
    const inner = this.#callersSession
    if (inner !== null) return inner.savepoint(name)
    const before = this.#inner?.ending
    if (before) return before.then(() => this.savepoint(name))
    if (this.ending !== null) return rejected(this.closedError())
    const invalid = invalidName(name)
    if (invalid !== null) return this.#rejected(invalid)
    const savepoint = this.#transactions.begin(name)
    // What the request does from now on may wait for this transaction's connection.
    if (this.label !== undefined) enterWorkOf(this.#callersSession!)
    return Promise.resolve(savepoint)
  }

  get #transactions (): InnerTransactions {
    this.#inner ??= new InnerTransactions({
      engine: this.host.pool,
      reportsFailures: () => this.endIsAwaited || this.isClosed,
      newSession: () => new ScopedSession(
        { ...this.host, ended: () => {} }, this.#transactionConfig, this.#requestSettings, this.label
      ),
      changed: () => this.#changes.announce()
    })
    return this.#inner
  }

  /** Ends a transaction that savepoint() has begun. Elsewhere every statement is committed already. */
  commit (): Promise<void> {
    return this.#inner?.settle('commit') ?? nothing
  }

  /** Ends a transaction that savepoint() has begun. Elsewhere there is nothing to roll back. */
  rollback (): Promise<void> {
    return this.#inner?.settle('rollback') ?? nothing
  }

  setRollbackOnly (reason?: string): void {
    const inner = this.#callersSession
    if (inner === null) {
      throw pgScopeError('FST_PG_SCOPE_SESSION_STATE', 'setRollbackOnly() was called in mode \'autocommit\', ' +
        'where each statement is committed already. Use transaction(fn), or mode \'transaction\'.')
    }
    inner.setRollbackOnly(reason)
  }

  afterCommit (fn: () => unknown): void {
    const inner = this.#callersSession
    if (inner !== null) return inner.afterCommit(fn)
    this.#hooks.afterCommit(fn)
    this.#hooks.committed()
  }

  afterRollback (fn: () => unknown): void {
    this.#callersSession?.afterRollback(fn)
  }

  async settle (outcome: Outcome): Promise<void> {
    if (outcome === 'rollback') return
    await this.#allSettled()
    const failure = this.#firstLoss
    if (failure !== null) throw failure.error
  }

  end (outcome: Outcome, reason?: Error): Promise<void> {
    this.reason ??= reason
    // The settings that a statement waits for may never arrive.
    if (outcome === 'rollback') for (const single of this.#running) single.dropUnsent(this.closedError())
    if (this.ending !== null) {
      // The end is waiting for statements, which are cancelled now.
      if (outcome === 'rollback' && reason !== undefined) this.abort(reason)
      return this.ending
    }
    this.ending = this.beginEnd(outcome, reason)
    return this.ending
  }

  protected startEnd (outcome: Outcome, reason?: Error): Promise<void> {
    if (!this.unused) return this.#finish(outcome, reason)
    // The fast path of #finish(): the end of nearly every session.
    this.ending = nothing
    this.ended()
    return nothing
  }

  /** Resolves when no statement or transaction is in progress. */
  async settled (): Promise<void> {
    while (this.working) await this.#changes.next()
  }

  /** Ends the streams, and resolves when all calls have settled. */
  async #allSettled (): Promise<void> {
    this.#failure ??= await this.#inner?.leaveBegun() ?? null
    for (const stream of this.#streams ?? []) stream.destroy()
    await Promise.all([this.settled(), ...this.#inner?.calls ?? []])
  }

  /** Cancels everything that runs. */
  async abort (reason: Error): Promise<void> {
    this.reason = reason
    await Promise.all([
      ...Array.from(this.#running, (single) => single.cancel(reason)),
      this.#inner?.rollBack(reason)
    ])
  }

  async #finish (outcome: Outcome, reason?: Error): Promise<void> {
    if (reason !== undefined) await this.abort(reason)
    else if (outcome === 'commit') await this.#allSettled()
    else {
      await this.#inner?.rollBack()
      await this.settled()
    }
    this.ended()
    const failure = this.#firstLoss
    if (outcome === 'commit' && failure !== null) throw failure.error
  }

  /** A statement has failed; the session continues. */
  #recordFailure (error: unknown): void {
    if (this.label !== undefined && !isClosedOrCanceled(error)) this.firstFailure ??= error
  }

  /**
   * Rejects a call before it is sent. The end of a request reports the error; outside requests only the rejection does.
   */
  #rejected (error: unknown): Promise<never> {
    if (this.label === undefined) return Promise.reject(error)
    this.#recordFailure(error)
    return rejected(error)
  }

  /** The session of the transaction that a call of the running code belongs to, or null. */
  get #callersSession (): ScopedSession | null {
    return this.#inner === null ? null : this.#inner.callersSession
  }
}
