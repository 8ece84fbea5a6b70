import { isClosedOrCanceled, pgScopeError } from '../errors.ts'
import { isPromiseLike } from '../kind-of.ts'
import { currentWork, type ConnectionOwner } from '../pool/work-context.ts'
import type { Lease } from '../pool/lease.ts'
import type { AcquireRequest, QueueEntry } from '../pool/wait-queue.ts'
import { failureKind, isFarewell, ranOutOfTime } from '../postgres/sqlstate.ts'
import type { ArraySetMember } from '../array-set.ts'
import { type BatchFailure, send } from './batch.ts'
import { abandon, cancelRunning, type Running } from './cancellation.ts'
import { connectionLost, unknownOutcome, withStatus } from './transaction-errors.ts'
import { backendQuestionFor, searchPathQuestionFor } from './connection-questions.ts'
import type { ObservedPromise } from './observed-promise.ts'
import { ResendPolicy } from './resend-policy.ts'
import type { TransactionHost } from './transaction.ts'
import { altersMeaning, type TransactionConfig, type Settings, settingStatement } from './transaction-config.ts'
import { batchTimeout, watchForAnswer } from './answer-timeout.ts'
import type { Call, Statement } from './statement.ts'

/** One statement, committed by itself, on a connection that it holds for one round trip. */
export class SingleStatement implements AcquireRequest, Running, ConnectionOwner, ArraySetMember {
  requireNew = false
  readonly exclusive = false
  readonly isClosed = false
  readonly owner = this
  readonly context = currentWork()
  readonly label: string | undefined
  entry: QueueEntry | null = null
  arraySetIndex = -1
  lease: Lease | null = null
  unanswered = 0
  /** Its promise, where it was called inside of other work. */
  readonly #observed: ObservedPromise<unknown> | null
  readonly #host: TransactionHost
  readonly #call: Call
  readonly #config: TransactionConfig
  /** Those that depend on the request. */
  #settings: Settings | undefined
  /** They are being worked out; until then it asks for no connection. */
  awaitsSettings = false
  readonly #over: (single: SingleStatement, error: unknown) => void
  #error: unknown = null
  #reason: Error | null = null
  /** Made, like the watchers, where there is need of it. */
  #resends: ResendPolicy | null = null
  #watchers: (() => void)[] | null = null

  constructor (host: TransactionHost, call: Call, config: TransactionConfig, label: string | undefined, over: (single: SingleStatement, error: unknown) => void) {
    this.label = label
    this.#observed = this.context === null ? null : call.observe()
    this.#host = host
    this.#call = call
    this.#config = config
    this.#over = over
  }

  get unawaited (): boolean {
    return this.#observed?.observed === false
  }

  /** @param settings those that depend on the request */
  start (settings: Settings | Promise<Settings> | undefined): void {
    if (!isPromiseLike(settings)) return this.#acquire(settings)
    this.awaitsSettings = true
    settings.then((settings) => {
      if (this.#stopWaiting()) this.#acquire(settings)
    }, (error) => {
      if (this.#stopWaiting()) this.refused(error)
    })
  }

  /** The wait for the settings is over; false where it was before. */
  #stopWaiting (): boolean {
    const waited = this.awaitsSettings
    this.awaitsSettings = false
    return waited
  }

  #acquire (settings: Settings | undefined): void {
    this.#settings = settings
    if (altersMeaning(this.#config, settings)) this.#call.automatic = false
    this.#host.pool.acquire(this)
  }

  granted (lease: Lease): void {
    this.lease = lease.usedBy(this)
    const look = backendQuestionFor(lease.connection)
    if (look === null) return this.#send(lease)
    // Not under the Sync of the statement, because VACUUM and its kin must stand alone there.
    this.unanswered++
    const answered = watchForAnswer(this, batchTimeout(this.#config.answerTimeout, [look]), 'statement')
    send(lease, [look], (_batch, failure) => {
      answered()
      this.unanswered--
      if (failure === null) look.succeed()
      if (failure === null && this.#reason === null) return this.#send(lease)
      this.lease = null
      lease.release()
      if (this.#reason === null && isFarewell(failure!.error) && !ranOutOfTime(failure!.error) && this.#resends?.canResend !== false) return this.#again([this.#call])
      this.#fail(this.#reason ?? connectionLost(failure!.error))
      this.#end()
    })
  }

  #send (lease: Lease): void {
    const setting = settingStatement(this.#config, lease.connection.baseline, this.#settings)
    this.unanswered++
    // What stands under one Sync is one transaction, so that the setting is local to the statement.
    const statements: Statement[] = setting === null ? [this.#call] : [setting, this.#call]
    const names = this.#call.automatic ? searchPathQuestionFor(lease.connection) : null
    if (names !== null) statements.unshift(names)
    const answered = watchForAnswer(this, batchTimeout(this.#config.answerTimeout, statements), 'statement')
    send(lease, statements, (batch, failure) => {
      answered()
      this.unanswered--
      this.#answered(batch.statements, failure)
    })
  }

  refused (error: Error): void {
    this.#fail(error)
    this.#end()
  }

  connectionLost (): void {} // the batch is told by pg

  settled (): Promise<void> {
    return new Promise((resolve) => (this.#watchers ??= []).push(resolve))
  }

  canceled (): void {
    this.#host.counters.canceled++
  }

  async cancel (reason: Error): Promise<void> {
    this.#reason = reason
    if (this.lease === null) {
      if (this.#stopWaiting() || this.#resends?.cancel() || this.#host.pool.giveUp(this)) this.refused(reason)
      return
    }
    const { lease } = this
    await cancelRunning(this)
    if (this.unanswered > 0) abandon(lease)
  }

  #answered (statements: readonly Statement[], failure: BatchFailure | null): void {
    const lease = this.lease!
    this.lease = null
    if (failure === null) this.#succeed(lease, statements)
    else if (failure.lost) {
      const { error } = failure
      // It stands last.
      const mayHaveRun = failure.begun === statements.length
      const again = !mayHaveRun && this.#reason === null && this.#resends?.canResend !== false && !ranOutOfTime(error)
      lease.destroy()
      if (again) {
        this.requireNew = true
        return this.#again(statements)
      }
      this.#fail(mayHaveRun ? unknownOutcome(error, 'a statement that commits by itself') : this.#reason ?? connectionLost(error))
    } else if (failure.unprepared && this.#reason === null) {
      // The error proves that it took no effect.
      lease.release()
      for (const statement of statements) statement.unprepared = true
      return this.#again(statements)
    } else if (this.#reason !== null && failureKind(failure.error) === 'canceled') this.#fail(this.#reason)
    else this.#fail(withStatus(failure.error))
    lease.release()
    this.#end()
  }

  #succeed (lease: Lease, statements: readonly Statement[]): void {
    if (this.#call.spoiled !== null) this.#fail(this.#call.spoiled)
    else if (lease.connection.clean) for (const statement of statements) statement.succeed()
    else this.#fail(pgScopeError('FST_PG_SCOPE_TRANSACTION_CONTROL', 'A statement began a transaction and left it open, so that it is rolled back. Use scope(fn) or transaction(fn).'))
  }

  #fail (error: unknown): void {
    this.#error = error
    // A request tells of it at its end; elsewhere the caller alone can know, as in pg.
    this.#call.fail(error, this.label !== undefined || this.#reason !== null || isClosedOrCanceled(error))
  }

  #again (statements: readonly Statement[]): void {
    this.#host.counters.resent++
    for (const statement of statements) statement.restart()
    this.#resends ??= new ResendPolicy()
    this.#resends.resend(() => this.#host.pool.acquire(this))
  }

  #end (): void {
    if (this.#watchers !== null) for (const watcher of this.#watchers) watcher()
    this.#over(this, this.#error)
  }
}
