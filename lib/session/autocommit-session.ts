import { isClosedOrCanceled, noFunction } from '../errors.ts'
import { ArraySet } from '../array-set.ts'
import type { RowStream, Savepoint, Session, StreamOptions } from '../../types/session.ts'
import type { ManagedSession, Outcome, SessionHost } from './managed-session.ts'
import { Changes } from '../changes.ts'
import { type ForLibraries, forLibraries } from '../library-session.ts'
import { nothingToRollBack } from './caller-settlement.ts'
import { captured } from './captured-call.ts'
import { InnerTransactions } from './inner-transactions.ts'
import { enterWorkOf } from '../pool/work-context.ts'
import { invalidName } from './imperative-savepoint.ts'
import { SessionBase } from './session-base.ts'
import { asError } from '../exchange/transaction-errors.ts'
import { failedStream } from './cursor-stream.ts'
import { OutcomeHooks } from './outcome-hooks.ts'
import { ScopedSession } from './scoped-session.ts'
import { addsStatements } from '../exchange/followed-commit.ts'
import type { Settings, TransactionConfig } from '../exchange/transaction-config.ts'
import { rejected } from './rejected.ts'
import { SingleStatement } from '../exchange/single-statement.ts'
import { readStatement } from '../exchange/read-statement.ts'
import type { RequestLabel } from '../telemetry/request-label.ts'

const nothing = Promise.resolve()
const noop = (): void => {}

/**
 * A session in `mode: 'autocommit'`: nothing stays open between statements, and transaction(fn) is a real transaction.
 */
export class AutocommitSession extends SessionBase implements ManagedSession {
  readonly mode = 'autocommit'
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
  /** Allocated lazily. */
  #inner: InnerTransactions | null = null
  firstFailure: unknown = null
  #isRolledBack = false
  readonly #changes = new Changes()

  /**
   * @param statement how a statement by itself is sent
   * @param transaction how transaction(fn) and stream() begin
   */
  constructor (
    host: SessionHost, statement: TransactionConfig, transaction: TransactionConfig,
    requestSettings?: () => Settings | Promise<Settings>, label?: RequestLabel
  ) {
    super(host, label)
    this.endIsAwaited = label !== undefined
    this.#statementConfig = statement
    this.#transactionConfig = transaction
    this.#requestSettings = requestSettings
    this.#hooks = new OutcomeHooks(host)
  }

  get state (): Session['state'] {
    if (this.ending !== null) return this.working ? 'settling' : 'closed'
    return this.working ? 'active' : 'idle'
  }

  /** A failed statement does not affect the session; a transaction(fn) that failed and is not awaited does. */
  get failure (): Error | null {
    const loss = this.#inner?.failure ?? null
    return loss === null ? null : asError(loss.error)
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
    return this.#running.size === 0 && this.#inner?.isUnused !== false
  }

  get streaming (): boolean {
    return this.#inner?.streams.isStreaming === true
  }

  query (text: unknown, values?: readonly unknown[], callback?: unknown): Promise<any> {
    if (this.#inner === null && this.ending === null) return this.#query(text, callback ?? values) // nothing to join
    if (this.#inner?.ending) [text, values] = captured(text, callback ?? values) as [unknown, []]
    return this.#elsewhere((session) => session.query(text as string, callback as [] ?? values)) ??
      this.#query(text, callback ?? values)
  }

  /** A call that belongs to another session, or must wait. Null if it is made now, on this session. */
  #elsewhere<T> (call: (session: Session) => Promise<T>): Promise<T> | null {
    const inner = this.#callersSession
    if (inner !== null) return call(inner)
    if (this.#inner?.ending) return this.#inner.behind(() => call(this))
    const isAccepted = this.ending === null || (this.#inner?.resumes === true && !this.#isRolledBack)
    return isAccepted ? null : rejected(this.closedError())
  }

  #query (text: unknown, values: unknown): Promise<any> {
    try {
      const call = readStatement(text, values, true)
      this.host.vet(call)
      if (call.several && addsStatements(this.host, this.#statementConfig, this.#requestSettings !== undefined)) {
        return this.transaction((session) => session.query(text as string, values as []))
      }
      const single = new SingleStatement(this.host, call, this.#statementConfig, this.label, (single, error) => {
        this.#running.delete(single)
        if (error !== null) this.#recordFailure(error)
        this.#changes.announce()
      }, this.host.replicas === null ? null : () => this.writerOfCall())
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
    const inner = this.#callersSession
    if (inner !== null) return inner.stream(text, values, options)
    if (this.ending !== null) return failedStream(this.closedError()) as RowStream<R>
    const open = (session: Session): RowStream<R> => session.stream<R>(text, values, options)
    return this.#transactions.streams.open(open, (stream, committed) => {
      if (stream.errored !== null && stream.errored.name !== 'AbortError') this.#recordFailure(stream.errored)
      committed.catch((error) => {
        // Before the end no caller would receive the error.
        if (this.ending === null) this.host.report(error, 'the transaction of a stream could not be committed')
        this.#transactions.lost(error)
      })
    })
  }

  transaction<T> (fn: (session: Session) => Promise<T> | T): Promise<T> {
    const elsewhere = this.#elsewhere((session) => session.transaction(fn))
    if (elsewhere !== null) return elsewhere
    return typeof fn === 'function' ? this.#transactions.run(fn) : this.#rejected(noFunction('transaction', fn))
  }

  /** Begins a transaction that all later calls join until it is released or rolled back. */
  savepoint (name?: string): Promise<Savepoint> {
    const elsewhere = this.#elsewhere((session) => session.savepoint(name))
    if (elsewhere !== null) return elsewhere
    const invalid = invalidName(name)
    return invalid === null ? Promise.resolve(this.#transactions.begin(name)) : this.#rejected(invalid)
  }

  get #transactions (): InnerTransactions {
    this.#inner ??= new InnerTransactions({
      engine: this.host.pool,
      reportsFailures: () => this.endIsAwaited || this.isClosed,
      newSession: () => {
        const host = { ...this.host, ended: noop }
        const session = new ScopedSession(host, this.#transactionConfig, this.#requestSettings, this.label)
        if (this.host.replicas !== null) session.shareWriter(this.writerOfCall())
        return session
      },
      changed: () => this.#changes.announce(),
      begun: (session) => { if (this.label !== undefined) enterWorkOf(session) },
      lateError: (waited) => this.#isRolledBack || (this.ending !== null && !waited) ? this.closedError() : null
    })
    return this.#inner
  }

  get [forLibraries] (): ForLibraries {
    return this.#transactions.forLibraries(this.#transactionConfig.modes, (error) => this.#recordFailure(error))
  }

  commit (): Promise<void> {
    return this.#settleForCaller('commit')
  }

  rollback (): Promise<void> {
    return this.#settleForCaller('rollback')
  }

  /** Ends a transaction that savepoint() has begun. Elsewhere every statement is committed already. */
  #settleForCaller (outcome: Outcome): Promise<void> {
    if (this.ending !== null && this.#callersSession === null) return rejected(this.closedError())
    return this.#inner?.settle(outcome) ?? nothing
  }

  setRollbackOnly (reason?: string): void {
    const inner = this.#callersSession
    if (inner === null) throw nothingToRollBack()
    inner.setRollbackOnly(reason)
  }

  afterCommit (fn: () => unknown): void {
    const inner = this.#callersSession
    if (inner !== null) return inner.afterCommit(fn)
    if (this.ending !== null) throw this.closedError()
    this.#hooks.afterCommit(fn)
    this.#hooks.committed()
  }

  afterRollback (fn: () => unknown): void {
    const inner = this.#callersSession
    if (inner !== null) inner.afterRollback(fn)
    else if (this.ending !== null) throw this.closedError()
  }

  async settle (outcome: Outcome): Promise<void> {
    if (outcome === 'rollback') return
    const fate = this.#inner?.fateOfCaller() ?? null
    await this.#allSettled()
    this.#inner?.throwLoss(fate)
  }

  end (outcome: Outcome, reason?: Error): Promise<void> {
    this.reason ??= reason
    this.#isRolledBack ||= outcome === 'rollback'
    // The settings that a statement waits for may never arrive.
    if (outcome === 'rollback') for (const single of this.#running) single.dropUnsent(this.closedError())
    if (this.ending !== null) {
      // The end is waiting for statements, which are cancelled now.
      if (outcome === 'rollback' && reason !== undefined) this.abort(reason)
      // After a rollback nothing is lost but open transactions: every statement by itself is committed.
      return outcome === 'commit' ? this.ending.then(() => this.#inner?.throwLoss(null)) : this.ending
    }
    return (this.ending = this.beginEnd(outcome, reason))
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
    await this.#inner?.leaveBegun()
    this.#inner?.streams.destroyAll()
    await Promise.all([this.settled(), ...this.#inner?.calls ?? []])
  }

  /** Cancels everything that runs. */
  async abort (reason: Error): Promise<void> {
    this.reason = reason
    await Promise.all([
      this.#inner?.rollBack(reason),
      ...Array.from(this.#running, (single) => single.cancel(reason))
    ])
  }

  async #finish (outcome: Outcome, reason?: Error): Promise<void> {
    const fate = this.#inner?.fateOfCaller() ?? null
    if (reason !== undefined) await this.abort(reason)
    else if (outcome === 'commit') await this.#allSettled()
    else {
      await this.#inner?.rollBack()
      await this.settled()
    }
    this.ended()
    if (outcome === 'commit') this.#inner?.throwLoss(fate)
  }

  /** A statement has failed; the session continues. */
  #recordFailure (error: unknown): void {
    if (this.label !== undefined && !isClosedOrCanceled(error)) this.firstFailure ??= error
  }

  /** Rejects a call before it is sent. Outside of requests only the rejection reports the error. */
  #rejected (error: unknown): Promise<never> {
    if (this.label === undefined) return Promise.reject(error)
    this.#recordFailure(error)
    return rejected(error)
  }

  /** The session of the transaction that a call of the running code belongs to, or null. */
  get #callersSession (): ScopedSession | null {
    return this.#inner?.callersSession ?? null
  }
}
