import { isClosedOrCanceled, pgScopeError } from '../errors.ts'
import { isPromiseLike } from '../kind-of.ts'
import { currentWork, type ConnectionOwner } from '../pool/work-context.ts'
import { Changes } from '../changes.ts'
import type { AcquireTrace } from '../telemetry/operation.ts'
import type { Lease } from '../pool/lease.ts'
import type { Pool } from '../pool/pool.ts'
import type { AcquireRequest, QueueEntry } from '../pool/wait-queue.ts'
import { failureKind, ranOutOfTime } from '../postgres/sqlstate.ts'
import type { ArraySetMember } from '../array-set.ts'
import type { BatchFailure } from './batch-failure.ts'
import { cancelRunning } from './cancellation.ts'
import { sendRollback } from './commit.ts'
import { connectionLost, unknownOutcome, withStatus } from './transaction-errors.ts'
import { backendQuestionFor, searchPathQuestionFor } from './connection-questions.ts'
import type { ObservedPromise } from '../observed-promise.ts'
import { type ReplicaRoute, routeOf } from './replica-route.ts'
import { metReadOnlyServer, ResendPolicy } from './resend-policy.ts'
import type { TransactionHost } from './transaction-host.ts'
import {
  altersMeaning, type TransactionConfig, type Settings, setsReadOnly, settingStatement
} from './transaction-config.ts'
import type { Call } from './call.ts'
import { type FollowedCommit, followedCommit } from './followed-commit.ts'
import { PendingSettings } from './pending-settings.ts'
import { isHeldBack } from './pooler-check.ts'
import { Pipeline, type PipelineOwner } from './pipeline.ts'
import type { Statement } from './statement.ts'
import type { Writer } from './written-position.ts'
import { statementChannel } from '../telemetry/channels.ts'
import { traceStatement } from './statement-trace.ts'
import { mayShareTransaction } from './trace-context.ts'
import type { RequestLabel } from '../telemetry/request-label.ts'

/**
 * One statement that commits by itself, on a connection that it holds for one round trip. An autocommit session makes
 * one for each call of query(): start() → settings → acquire → granted() → Pipeline → batchAnswered() → `done`.
 */
export class SingleStatement implements AcquireRequest, PipelineOwner, ConnectionOwner, ArraySetMember {
  requireNew = false
  readonly exclusive = false
  readonly isClosed = false
  readonly owner = this
  readonly context = currentWork()
  readonly label: RequestLabel | undefined
  entry: QueueEntry | null = null
  trace: AcquireTrace | null = null
  arraySetIndex = -1
  /** Null until it is sent for the first time. */
  #pipeline: Pipeline | null = null
  /** The promise of the call, if it was made while other work holds a connection. */
  readonly #observed: ObservedPromise<unknown> | null
  readonly #host: TransactionHost
  readonly #call: Call
  readonly #config: TransactionConfig
  /** The settings computed for the request. */
  #settings: Settings | undefined
  #pending: PendingSettings | null = null
  readonly #done: (single: SingleStatement, error: unknown) => void
  #error: unknown = null
  /** The trace that the caller belongs to. */
  readonly #traceSettings: Settings | null
  /** Why it is cancelled, or null. */
  #cancelReason: Error | null = null
  /** Allocated lazily. */
  #resends: ResendPolicy | null = null
  /** A server that does not accept writes was left once: a second one is no chance. */
  #hasLeftServer = false
  /** Null: it runs on the primary. */
  readonly #route: ReplicaRoute | null
  /** Null where no replica needs to know what it writes. */
  readonly #commit: FollowedCommit | null
  readonly #changes = new Changes()

  /** @param writer what learns where it has written; null: it does not write */
  constructor (
    host: TransactionHost, call: Call, config: TransactionConfig, label: RequestLabel | undefined,
    done: (single: SingleStatement, error: unknown) => void, writer: (() => Writer) | null = null
  ) {
    this.label = label
    this.#observed = this.context === null ? null : call.observe()
    this.#host = host
    this.#call = call
    this.#config = config
    this.#route = routeOf(host, config)
    this.#commit = followedCommit(call, host, config, writer)
    this.#done = done
    const { traceContext } = host
    this.#traceSettings = traceContext !== null && mayShareTransaction(call) ? traceContext.settings(label) : null
  }

  get unawaited (): boolean {
    return this.#observed?.observed === false
  }

  /** @param settings the settings computed for the request */
  start (settings: Settings | Promise<Settings> | undefined): void {
    if (statementChannel.hasSubscribers) this.#trace()
    if (!isPromiseLike(settings)) return this.#acquire(settings)
    this.#pending = new PendingSettings(settings, (settings) => this.#acquire(settings), (error) => this.refused(error))
  }

  #trace (): void {
    const { text, name } = this.#call
    const { engineIdentity: engine } = this.#host
    const how = { engine, session: undefined, label: this.label, kind: 'query', mode: 'autocommit' } as const
    this.#call.trace = traceStatement(text, name, how)
  }

  /** Cancels a statement that waits for `settings(request)` or `role(request)`. */
  dropUnsent (error: Error): void {
    if (this.#pending?.isPending === true) this.cancel(error)
  }

  #acquire (settings: Settings | undefined): void {
    this.#settings = settings
    if (altersMeaning(this.#config, settings)) this.#call.automatic = false
    this.#choose()
  }

  /** Acquires a connection of a replica or of the primary. */
  #choose (): void {
    const refusal = this.#route === null ? null : this.#route.choose()
    if (refusal === null) this.#pool.acquire(this)
    else this.refused(refusal)
  }

  get #pool (): Pool {
    return this.#route?.pool ?? this.#host.pool
  }

  granted (lease: Lease): void {
    const pipeline = new Pipeline(lease, this, this.#config.answerTimeout)
    this.#pipeline = pipeline
    const question = backendQuestionFor(lease.connection)
    if (question === null) return this.#send(pipeline)
    // Not under the Sync of the statement: statements such as VACUUM must be alone there.
    pipeline.send([question], 'statement', (failure) => {
      if (failure === null) question.succeed()
      if (failure === null && this.#cancelReason === null) return this.#send(pipeline)
      pipeline.release()
      if (this.#cancelReason !== null) return this.refused(this.#cancelReason)
      const { error, lost } = failure!
      // The caller's statement was not sent.
      if (lost && this.#canResend(error)) return this.#resend([this.#call])
      this.refused(connectionLost(error))
    })
  }

  #send (pipeline: Pipeline): void {
    const { connection } = pipeline.lease
    if (isHeldBack(this.#call, connection)) {
      pipeline.release()
      return this.refused(this.#call.rejection as Error)
    }
    connection.mayBeReadOnly = setsReadOnly(this.#config, this.#settings)
    const setting = settingStatement(this.#config, connection.baseline, this.#settings, this.#traceSettings)
    // Statements under one Sync are one transaction, so the setting is local to the statement.
    const statements: Statement[] = setting === null ? [this.#call] : [setting, this.#call]
    const question = this.#call.automatic ? searchPathQuestionFor(connection) : null
    if (question !== null) statements.unshift(question)
    const check = this.#route === null ? null : this.#route.check()
    if (check !== null) statements.unshift(check)
    pipeline.write(this.#commit === null ? statements : this.#commit.around(statements, connection))
  }

  refused (error: Error): void {
    if (this.#cancelReason === null && this.#route?.leaveRefused(error) === true) return this.#choose()
    this.#fail(error)
    this.#end()
  }

  connectionLost (): void {} // pg reports the loss to the batch

  changed (): void {
    this.#changes.announce()
  }

  settled (): Promise<void> {
    return this.#changes.next()
  }

  canceled (): void {
    this.#host.counters.canceled++
  }

  async cancel (reason: Error): Promise<void> {
    this.#cancelReason = reason
    const pipeline = this.#pipeline
    if (pipeline === null || pipeline.isReleased) {
      if (this.#pending?.cancel() || this.#resends?.cancel() || this.#pool.giveUp(this)) this.refused(reason)
      return
    }
    await cancelRunning(pipeline)
    if (pipeline.isRunning) pipeline.release()
  }

  batchAnswered (statements: readonly Statement[], failure: BatchFailure | null): void {
    const pipeline = this.#pipeline!
    const isOpen = this.#commit?.isCommitted === false && failure?.lost === false && !pipeline.lease.connection.clean
    if (!isOpen) return this.#answered(statements, failure)
    // Its transaction must be ended before anything else is sent. A COMMIT that failed has ended it.
    sendRollback(pipeline, this.#pool, null).then(() => this.#answered(statements, failure))
  }

  #answered (statements: readonly Statement[], failure: BatchFailure | null): void {
    const pipeline = this.#pipeline!
    const isCommitted = this.#commit?.isCommitted === true
    if (isCommitted && failure?.lost === true) pipeline.release(true)
    if (failure === null || isCommitted) this.#succeed(pipeline.lease, statements, isCommitted)
    else if (this.#leavesReplica(failure, statements)) {
      pipeline.release(failure.lost)
      this.#host.counters.resent++
      for (const statement of statements) statement.restart()
      this.requireNew = false
      return this.#choose()
    } else if (failure.lost) {
      const { error } = failure
      // Otherwise the caller's statement is the last of the batch.
      const mayHaveRun = this.#commit?.mayHaveRun(statements, failure) ?? failure.begun === statements.length
      pipeline.release(true)
      if (!mayHaveRun && this.#cancelReason === null && this.#canResend(error)) {
        this.requireNew = true
        return this.#resend(statements)
      }
      this.#fail(mayHaveRun
        ? unknownOutcome(error, 'a statement that commits by itself')
        : this.#cancelReason ?? connectionLost(error))
    } else if (this.#cancelReason === null && this.#leavesServer(failure, pipeline.lease)) {
      this.#hasLeftServer = true
      pipeline.release()
      this.requireNew = true
      return this.#resend(statements)
    } else if (failure.unprepared && this.#cancelReason === null) {
      // The error proves that the statement had no effect.
      pipeline.release()
      for (const statement of statements) statement.unprepared = true
      return this.#resend(statements)
    } else if (this.#cancelReason !== null && failureKind(failure.error) === 'canceled') this.#fail(this.#cancelReason)
    else this.#fail(withStatus(failure.error))
    pipeline.release()
    this.#end()
  }

  /** It is sent again to another server. */
  #leavesReplica (failure: BatchFailure, statements: readonly Statement[]): boolean {
    const resends = this.#cancelReason === null && (failure.lost || !failure.unprepared)
    return resends && this.#route?.leaveFailed(failure, statements) === true
  }

  #leavesServer (failure: BatchFailure, { connection }: Lease): boolean {
    return !this.#hasLeftServer && metReadOnlyServer(failure, connection)
  }

  #succeed (lease: Lease, statements: readonly Statement[], isCommitted: boolean): void {
    if (this.#call.resultError !== null) this.#fail(this.#call.resultError)
    else if (isCommitted || lease.connection.clean) for (const statement of statements) statement.succeed()
    else {
      this.#fail(pgScopeError('FST_PG_SCOPE_TRANSACTION_CONTROL',
        'The statement left a transaction open, which is rolled back. Use scope(fn) or transaction(fn).'))
    }
  }

  #fail (error: unknown): void {
    this.#error = error
    // A request reports the error at its end. Outside requests only the caller can know it, as in pg.
    this.#call.fail(error, this.label !== undefined || this.#cancelReason !== null || isClosedOrCanceled(error))
  }

  #canResend (error: unknown): boolean {
    return !ranOutOfTime(error) && this.#resends?.canResend !== false
  }

  #resend (statements: readonly Statement[]): void {
    this.#host.counters.resent++
    for (const statement of statements) statement.restart()
    this.#resends ??= new ResendPolicy()
    this.#resends.resend(() => this.#pool.acquire(this))
  }

  #end (): void {
    this.#done(this, this.#error)
  }
}
