import { isPromiseLike } from '../kind-of.ts'
import { enterWorkOf } from '../pool/work-context.ts'
import type { Statement } from '../exchange/statement.ts'
import type { Settings, TransactionConfig } from '../exchange/transaction-config.ts'
import { transactionAborted } from '../exchange/transaction-errors.ts'
import type { TransactionHost, TransactionOwner } from '../exchange/transaction-host.ts'
import { Transaction } from '../exchange/transaction.ts'
import type { SessionState } from '../../types/session.ts'
import type { Savepoints } from './savepoints.ts'

const noop = (): void => {}

/**
 * The transactions of one session, one after the other: the first statement begins one, COMMIT or ROLLBACK ends it.
 * The state of the session is the state of its transaction.
 */
export class SessionTransactions {
  /** Null if none was begun, or if the session has left the last one. */
  current: Transaction | null = null
  readonly #host: TransactionHost
  readonly #config: TransactionConfig
  readonly #owner: TransactionOwner
  readonly #savepoints: Savepoints
  readonly #label: string | undefined
  /** Computes the settings of the request when a transaction begins. */
  #requestSettings: (() => Settings | Promise<Settings>) | undefined
  /** A statement may have made the transaction read-write or serializable. */
  #mayHaveChangedMode = false

  constructor (
    host: TransactionHost, config: TransactionConfig, owner: TransactionOwner, savepoints: Savepoints,
    requestSettings: (() => Settings | Promise<Settings>) | undefined, label: string | undefined
  ) {
    this.#host = host
    this.#config = config
    this.#owner = owner
    this.#savepoints = savepoints
    this.#requestSettings = requestSettings
    this.#label = label
  }

  get state (): Exclude<SessionState, 'closed'> {
    if (this.current === null) return 'idle'
    const { state } = this.current
    return state === 'ended' ? 'settling' : state
  }

  /** The current transaction, unless it has ended. */
  get open (): Transaction | null {
    return this.current?.isEnded === false ? this.current : null
  }

  /** The error of further statements in a failed transaction, or null. */
  get failure (): Error | null {
    return this.current?.state === 'failed' ? this.current.refusal() : null
  }

  /** The transaction has failed and has no connection: only a rollback is possible. */
  get isLost (): boolean {
    return this.current?.state === 'failed' && this.current.isLost
  }

  get nothingAwaited (): boolean {
    return this.current?.nothingAwaited !== false
  }

  get losesNothing (): boolean {
    return this.#config.losesNothing && !this.#mayHaveChangedMode
  }

  submit (statements: readonly Statement[]): void {
    for (const { changesMode } of statements) this.#mayHaveChangedMode ||= changesMode
    if (this.open === null) this.#begin(statements)
    else this.open.submit(this.#withSavepoints(this.open, statements))
  }

  #begin (statements: readonly Statement[]): void {
    let settings: Settings | Promise<Settings> | undefined
    const { rejection } = statements[0]!
    let failure = rejection === null ? null : transactionAborted(rejection) as Error
    try {
      if (failure === null) settings = this.#requestSettings?.()
    } catch (error) { // the user's settings(request) or role(request)
      failure = error as Error
    }
    if (this.open !== null) {
      // The user's function used this session itself, which began a transaction that failed.
      if (isPromiseLike(settings)) settings.then(undefined, noop)
      return this.open.submit(statements)
    }
    const transaction = new Transaction(this.#host, this.#config, settings, this.#owner, this.#label)
    this.current = transaction
    const all = this.#withSavepoints(transaction, statements)
    if (failure !== null) return transaction.refuseAll(failure, statements)
    // The rest of the handler runs inside its session. A caller of app.db.session() may have several side by side.
    if ((this.#owner.requestOf ?? null) !== null) enterWorkOf(this.#owner)
    transaction.start(all)
  }

  #withSavepoints (transaction: Transaction, statements: readonly Statement[]): readonly Statement[] {
    if (this.#savepoints.isEmpty) return statements
    return [...this.#savepoints.controlStatements(transaction), ...statements]
  }

  /** The next statement begins another transaction. */
  leave (): void {
    this.current = null
  }

  /** The session has ended: releases the request, to which the function of the settings refers. */
  forgetRequest (): void {
    this.#requestSettings = undefined
  }
}
