import { isPromiseLike } from '../kind-of.ts'
import type { Connection } from '../pool/connection.ts'
import type { Lease } from '../pool/lease.ts'
import type { Pool } from '../pool/pool.ts'
import type { AcquireRequest, QueueEntry } from '../pool/wait-queue.ts'
import { currentWork, type ConnectionOwner } from '../pool/work-context.ts'
import { ranOutOfTime } from '../postgres/sqlstate.ts'
import type { BatchFailure } from './batch-failure.ts'
import { backendQuestionFor, searchPathQuestionFor } from './connection-questions.ts'
import { PendingSettings } from './pending-settings.ts'
import { ResendPolicy } from './resend-policy.ts'
import { altersMeaning, type TransactionConfig, type Settings, settingStatement } from './transaction-config.ts'
import { Statement } from './statement.ts'

/** The transaction that starts. */
export interface StartingTransaction {
  readonly owner: ConnectionOwner
  readonly label: string | undefined
  /** The settings are known, and may change what the text of statements means. */
  settingsAlterMeaning (): void
  /** `settings(request)` or `role(request)` failed: no connection is acquired. */
  settingsFailed (error: Error): void
  /** @param internal the statements to send before the caller's, BEGIN first */
  begin (lease: Lease, internal: readonly Statement[]): void
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
  readonly label: string | undefined
  entry: QueueEntry | null = null
  readonly #transaction: StartingTransaction
  readonly #pool: Pool
  readonly #config: TransactionConfig
  /** The settings computed for the request. */
  #settings: Settings | undefined
  #pending: PendingSettings | null = null
  /** BEGIN, the settings and the questions for a new connection. */
  #internal: readonly Statement[] = []
  /** It was sent again with unprepared statements. */
  #isUnprepared = false
  #resends: ResendPolicy | null = null

  constructor (transaction: StartingTransaction, pool: Pool, config: TransactionConfig) {
    this.#transaction = transaction
    this.owner = transaction.owner
    this.label = transaction.label
    this.#pool = pool
    this.#config = config
  }

  /** @param settings the settings computed for the request */
  use (settings: Settings | Promise<Settings> | undefined): void {
    if (isPromiseLike(settings)) {
      this.#pending = new PendingSettings(settings, (settings) => {
        this.use(settings)
        this.#pool.acquire(this)
      }, (error) => this.#transaction.settingsFailed(error))
    } else {
      this.#settings = settings
      if (altersMeaning(this.#config, settings)) this.#transaction.settingsAlterMeaning()
    }
  }

  get awaitsSettings (): boolean {
    return this.#pending?.isPending === true
  }

  /** Acquires a connection, as soon as the settings are known. */
  acquire (): void {
    if (!this.awaitsSettings) this.#pool.acquire(this)
  }

  /** Stops waiting for the settings, a connection or another attempt. @returns whether it was waiting */
  cancel (): boolean {
    return this.#pending?.cancel() === true || this.#resends?.cancel() === true || this.#pool.giveUp(this)
  }

  granted (lease: Lease): void {
    this.#transaction.begin(lease, this.#internalStatements(lease.connection))
  }

  refused (error: Error): void {
    this.#transaction.refused(error)
  }

  /** BEGIN first. A caller's SET TRANSACTION goes between BEGIN and the others. */
  #internalStatements (connection: Connection): Statement[] {
    const setting = settingStatement(this.#config, connection.baseline, this.#settings)
    const statements: Statement[] = [new Statement(this.#config.begin)]
    if (setting !== null) statements.push(setting)
    // Prepared at their first use: every transaction begins with them.
    for (const statement of statements) statement.automatic = true
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
   * Whether the lost first batch can be sent again on a new connection: once if a reused connection was dead,
   * repeatedly if the server announced that it closes the connection before it began the batch.
   */
  canResend ({ reused }: Lease, { error, begun }: BatchFailure): boolean {
    const neverRan = begun === 0 || (reused && !this.requireNew)
    return neverRan && !ranOutOfTime(error) && this.#resends?.canResend !== false
  }

  /** Acquires a new connection for another attempt. */
  resend (): void {
    this.requireNew = true
    this.#resends ??= new ResendPolicy()
    this.#resends.resend(() => this.#pool.acquire(this))
  }

  /** Allows the batch to be sent again unprepared, once. @returns whether this is the first time */
  useUnprepared (): boolean {
    if (this.#isUnprepared) return false
    this.#isUnprepared = true
    return true
  }
}
