import { isPromiseLike } from '../kind-of.ts'
import type { Connection } from '../pool/connection.ts'
import type { AcquireTrace } from '../telemetry/operation.ts'
import type { Lease } from '../pool/lease.ts'
import type { Pool } from '../pool/pool.ts'
import type { AcquireRequest, QueueEntry } from '../pool/wait-queue.ts'
import { currentWork, type ConnectionOwner } from '../pool/work-context.ts'
import { ranOutOfTime } from '../postgres/sqlstate.ts'
import type { BatchFailure } from './batch-failure.ts'
import { sendRollback } from './commit.ts'
import { backendQuestionFor, searchPathQuestionFor } from './connection-questions.ts'
import { PendingSettings } from './pending-settings.ts'
import type { Pipeline } from './pipeline.ts'
import { type ReplicaRoute, routeOf } from './replica-route.ts'
import { metReadOnlyServer, ResendPolicy } from './resend-policy.ts'
import {
  altersMeaning, type TransactionConfig, type Settings, setsReadOnly, settingStatement
} from './transaction-config.ts'
import { Statement } from './statement.ts'
import type { StatementQueue } from './statement-queue.ts'
import type { TransactionHost } from './transaction-host.ts'
import type { RequestLabel } from '../telemetry/request-label.ts'
import type { UnansweredStatements } from './unanswered-statements.ts'

/** The transaction that starts. */
export interface StartingTransaction {
  readonly owner: ConnectionOwner
  /** The settings are known, and may change what the text of statements means. */
  settingsAlterMeaning (): void
  /** `settings(request)` or `role(request)` failed: no connection is acquired. */
  settingsFailed (error: Error): void
  /** Sends the first batch. */
  begin (lease: Lease): void
  /** No connection could be acquired. */
  refused (error: Error): void
}

/**
 * The start of a transaction: waits for the settings, acquires a connection, and makes BEGIN and the statements sent
 * with it. Until these are answered nothing can have been committed, so they may be sent again on another connection.
 */
export class TransactionStart implements AcquireRequest {
  requireNew = false
  readonly exclusive = false
  readonly owner: ConnectionOwner
  readonly context = currentWork()
  readonly label: RequestLabel | undefined
  entry: QueueEntry | null = null
  trace: AcquireTrace | null = null
  readonly #transaction: StartingTransaction
  readonly #host: TransactionHost
  readonly #config: TransactionConfig
  /** The settings computed for the request. */
  #settings: Settings | undefined
  #pending: PendingSettings | null = null
  /** The trace that the caller belongs to. */
  readonly #trace: Settings | null
  /** BEGIN, the settings and the questions for a new connection. */
  #internal: readonly Statement[] = []
  /** It was sent again with unprepared statements. */
  #isUnprepared = false
  #resends: ResendPolicy | null = null
  /** A server that does not accept writes was left once: a second one is no chance. */
  #hasLeftServer = false
  /** Null: it runs on the primary. */
  readonly #route: ReplicaRoute | null

  constructor (
    transaction: StartingTransaction, host: TransactionHost, config: TransactionConfig, label: RequestLabel | undefined
  ) {
    this.#transaction = transaction
    this.owner = transaction.owner
    this.label = label
    this.#host = host
    this.#config = config
    this.#trace = host.traceContext === null ? null : host.traceContext.settings(label)
    this.#route = routeOf(host, config)
  }

  /** @param settings the settings computed for the request */
  use (settings: Settings | Promise<Settings> | undefined): void {
    if (isPromiseLike(settings)) {
      this.#pending = new PendingSettings(settings, (settings) => {
        this.use(settings)
        this.acquire()
      }, (error) => this.#transaction.settingsFailed(error))
    } else {
      this.#settings = settings
      if (altersMeaning(this.#config, settings)) this.#transaction.settingsAlterMeaning()
    }
  }

  get awaitsSettings (): boolean {
    return this.#pending?.isPending === true
  }

  /** The pool that its connection comes from. */
  get pool (): Pool {
    return this.#route?.pool ?? this.#host.pool
  }

  /** Acquires a connection, as soon as the settings are known. */
  acquire (): void {
    if (this.awaitsSettings) return
    const refusal = this.#route === null ? null : this.#route.choose()
    if (refusal === null) this.pool.acquire(this)
    else this.#transaction.refused(refusal)
  }

  /** Stops waiting for the settings, a connection or another attempt. @returns whether it was waiting */
  cancel (): boolean {
    return this.#pending?.cancel() === true || this.#resends?.cancel() === true || this.pool.giveUp(this)
  }

  granted (lease: Lease): void {
    this.#transaction.begin(lease)
  }

  refused (error: Error): void {
    if (this.#route?.leaveRefused(error) === true) this.acquire()
    else this.#transaction.refused(error)
  }

  /** The first batch: BEGIN, the settings and the questions for a new connection, then the caller's statements. */
  firstBatch (connection: Connection, called: readonly Statement[]): Statement[] {
    const internal = this.#internalStatements(connection)
    if (called[0]?.goesFirst !== true) return [...internal, ...called]
    // PostgreSQL accepts SET TRANSACTION only before every query.
    const other = called.findIndex(({ goesFirst }) => !goesFirst)
    const first = other === -1 ? called.length : other
    return [internal[0]!, ...called.slice(0, first), ...internal.slice(1), ...called.slice(first)]
  }

  #internalStatements (connection: Connection): readonly Statement[] {
    connection.mayBeReadOnly = setsReadOnly(this.#config, this.#settings)
    const setting = settingStatement(this.#config, connection.baseline, this.#settings, this.#trace)
    const statements: Statement[] = [new Statement(this.#config.begin)]
    if (setting !== null) statements.push(setting)
    // Prepared at their first use: every transaction begins with them.
    for (const statement of statements) statement.automatic = true
    const check = this.#route === null ? null : this.#route.check()
    // Before the first snapshot.
    if (check !== null) statements.splice(1, 0, check)
    const backendQuestion = backendQuestionFor(connection)
    if (backendQuestion !== null) statements.push(backendQuestion)
    const searchPathQuestion = searchPathQuestionFor(connection)
    if (searchPathQuestion !== null) statements.push(searchPathQuestion)
    this.#internal = statements
    return statements
  }

  isInternal (statement: Statement): boolean {
    return this.#internal.includes(statement)
  }

  /**
   * Sends the failed first batch again, if it may succeed then: nothing of it can have been committed.
   *
   * @returns whether it is sent again
   */
  resend (statements: readonly Statement[], failure: BatchFailure, unanswered: UnansweredStatements): boolean {
    const pipeline = unanswered.pipeline!
    const prepared = !failure.lost && failure.unprepared && !this.#isUnprepared
    if (!prepared && abortedBySignal(statements) === null && this.#route?.leaveFailed(failure, statements) === true) {
      return this.#resendElsewhere(statements, failure, unanswered)
    }
    if (failure.lost) return this.#resendOnNewConnection(statements, failure, pipeline, unanswered.queue)
    if (this.#leavesServer(failure, pipeline.lease.connection) && abortedBySignal(statements) === null) {
      this.#hasLeftServer = true
      return this.#resendElsewhere(statements, failure, unanswered, true)
    }
    if (!prepared) return false
    this.#isUnprepared = true
    for (const statement of statements) {
      statement.restart()
      statement.unprepared = true
    }
    pipeline.send([new Statement('ROLLBACK', [], true)], 'statement', () => {})
    pipeline.write(statements)
    return true
  }

  #leavesServer (failure: BatchFailure, connection: Connection): boolean {
    return !this.#hasLeftServer && metReadOnlyServer(failure, connection)
  }

  /** On another server. @param requireNew on a new connection, whose server is checked again */
  #resendElsewhere (
    statements: readonly Statement[], { lost }: BatchFailure, unanswered: UnansweredStatements, requireNew = false
  ): true {
    this.#host.counters.resent++
    const pipeline = unanswered.leaveConnection()
    if (lost) pipeline.release(true)
    else sendRollback(pipeline, this.#host.pool, null).then(() => pipeline.release())
    unanswered.queue.putBack(statements.filter((statement) => !this.isInternal(statement)))
    this.requireNew = requireNew
    this.acquire()
    return true
  }

  /**
   * Once if a reused connection was dead, repeatedly if the server announced that it closes the connection before it
   * began the batch.
   */
  #resendOnNewConnection (
    statements: readonly Statement[], { error, begun }: BatchFailure, pipeline: Pipeline, queue: StatementQueue
  ): boolean {
    const neverRan = begun === 0 || (pipeline.lease.reused && !this.requireNew)
    if (!neverRan || ranOutOfTime(error) || this.#resends?.canResend === false) return false
    if (abortedBySignal(statements) !== null) return false
    this.#host.counters.resent++
    pipeline.release(true)
    queue.putBack(statements.filter((statement) => !this.isInternal(statement)))
    this.requireNew = true
    this.#resends ??= new ResendPolicy()
    this.#resends.resend(() => this.pool.acquire(this))
    return true
  }
}

/** The error of a batch's aborted signal, or null. Only the last statement of a batch can have a signal of its own. */
export function abortedBySignal (statements: readonly Statement[]): unknown {
  return statements.at(-1)!.rejection
}
