import type { Connection } from '../pool/connection.ts'
import type { Lease } from '../pool/lease.ts'
import { ranOutOfTime } from '../postgres/sqlstate.ts'
import type { BatchFailure } from './batch.ts'
import { backendQuestionFor, searchPathQuestionFor } from './connection-questions.ts'
import { ResendPolicy } from './resend-policy.ts'
import { type TransactionConfig, type Settings, settingStatement } from './transaction-config.ts'
import { Statement } from './statement.ts'

/** BEGIN, and what travels with it. Until it is answered nothing can have been committed, so that it may be sent again. */
export class FirstBatch {
  readonly #config: TransactionConfig
  /** BEGIN, the settings, and what a new connection is asked. */
  #ours: readonly Statement[] = []
  /** Those that depend on the request. */
  settings: Settings | undefined
  /** It was sent again unprepared. */
  #unprepared = false
  #resends: ResendPolicy | null = null

  constructor (config: TransactionConfig) {
    this.#config = config
  }

  /** What goes ahead of the caller's statements; between the first of it, BEGIN, and the others stands his SET TRANSACTION. */
  ahead (connection: Connection): Statement[] {
    const setting = settingStatement(this.#config, connection.baseline, this.settings)
    const first: Statement[] = [new Statement(this.#config.begin)]
    if (setting !== null) first.push(setting)
    // Every transaction begins with them.
    for (const statement of first) statement.automatic = true
    const look = backendQuestionFor(connection)
    if (look !== null) first.push(look)
    const names = searchPathQuestionFor(connection)
    if (names !== null) first.push(names)
    this.#ours = first
    return first
  }

  /** Whether a statement was made here. */
  isOurs (statement: Statement): boolean {
    return this.#ours.includes(statement)
  }

  /**
   * Whether it can be sent again on a new connection: once where a kept one was dead, and more often where the server said that it
   * goes before it began with the batch.
   */
  canResend ({ reused }: Lease, fresh: boolean, { error, begun }: BatchFailure): boolean {
    const dead = begun === 0 || (reused && !fresh)
    return dead && !ranOutOfTime(error) && this.#resends?.canResend !== false
  }

  resend (fn: () => void): void {
    this.#resends ??= new ResendPolicy()
    this.#resends.resend(fn)
  }

  /** No other try is made; whether one would have been. */
  cancelResend (): boolean {
    return this.#resends?.cancel() === true
  }

  /** It is to be sent again unprepared; false where it was already. */
  sendUnprepared (): boolean {
    if (this.#unprepared) return false
    this.#unprepared = true
    return true
  }
}
