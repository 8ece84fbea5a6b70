import { setImmediate as nextTurn } from 'node:timers/promises'
import { isPgScopeError, pgScopeError } from '../errors.ts'
import { beginSavepoint, type TransactionModes } from '../library-source.ts'
import type { Engine } from '../../types/engine.ts'
import type { OwnedSession, Session } from '../../types/session.ts'
import { LibraryTransaction, type TransactionOrder } from './library-transaction.ts'

/** How long a call waits for transactions that were begun later on the same session. Milliseconds. */
export const maxWait = 5000

/** On a session: what libraries have begun on it. */
const key = Symbol('fastify-pg-scope.pg')

/** The transactions that libraries have begun on a session, by whatever client. */
export function transactionsOf (session: Session): LibraryTransactions {
  const holder = session as Session & { [key]?: LibraryTransactions }
  holder[key] ??= new LibraryTransactions(session)
  return holder[key]
}

/** BEGIN without a session: a transaction of its own, whose COMMIT and ROLLBACK are real. */
export function beginOwn (engine: Engine, modes: TransactionModes): LibraryTransaction {
  const session = engine.session({ ...modes, mode: 'transaction' })
  return new LibraryTransactions(session).enter(session)
}

/**
 * The open transactions of libraries on one session, each inside of the one before it: a transaction that begins while
 * another is open may be part of that one's work, which would then wait for it.
 *
 * - Transactions that begin in the same turn of the event loop cannot be inside of each other: they run one after the
 *   other.
 * - What belongs to a transaction waits while a later one is open, which is rolled back without it. Code inside the
 *   later one may await that call, so the wait is bounded.
 * - ROLLBACK does not wait: it ends later transactions, whose clients learn it from their next call.
 */
export class LibraryTransactions implements TransactionOrder {
  readonly session: Session
  /** Innermost last. */
  readonly #open: LibraryTransaction[] = []
  /** Has begun in this turn of the event loop. */
  #beginning: LibraryTransaction | null = null
  /** Calls that wait for the end of a transaction. */
  #waiters: (() => void)[] = []

  constructor (session: Session) {
    this.session = session
  }

  async begin (modes: TransactionModes): Promise<LibraryTransaction> {
    while (this.#beginning !== null) await this.#withinLimit(this.#beginning.ended)
    const transaction = this.#beginning = new LibraryTransaction(this, null)
    try {
      transaction.mustEnd()
      transaction.enter(await beginSavepoint(this.session, modes))
      this.#open.push(transaction)
      await nextTurn()
      return transaction
    } catch (error) {
      transaction.end()
      throw error
    } finally {
      this.#beginning = null
    }
  }

  /** A transaction without BEGIN: on a session, SAVEPOINT alone begins one. */
  enter (own: OwnedSession | null = null): LibraryTransaction {
    const transaction = new LibraryTransaction(this, own)
    this.#open.push(transaction)
    return transaction
  }

  /** Null if it is the turn of the transaction's calls. Rejects when later transactions stay open for too long. */
  turnOf (transaction: LibraryTransaction): Promise<void> | null {
    if (transaction.aborted === null && this.#open.at(-1) === transaction) return null
    return this.#waitFor(transaction)
  }

  async #waitFor (transaction: LibraryTransaction): Promise<void> {
    while (transaction.aborted === null && this.#open.at(-1) !== transaction) {
      await this.#withinLimit(new Promise((resolve) => { this.#waiters.push(resolve) }))
    }
    if (transaction.aborted !== null) throw transaction.aborted
  }

  /** @throws when it takes too long, or when the session ends before */
  async #withinLimit (wait: Promise<void>): Promise<void> {
    const { signal } = this.session
    const error = await new Promise<Error | null>((resolve) => {
      const ended = (): void => settle(signal.reason instanceof Error && isPgScopeError(signal.reason)
        ? signal.reason
        : sessionEnded())
      const timer = setTimeout(() => settle(waitedTooLong()), maxWait)
      const settle = (error: Error | null): void => {
        clearTimeout(timer)
        signal.removeEventListener('abort', ended)
        resolve(error)
      }
      signal.addEventListener('abort', ended)
      wait.then(() => settle(null))
      if (signal.aborted) ended()
    })
    if (error !== null) throw error
  }

  /** The transaction is about to be rolled back: so are those inside of it. */
  abortInside (transaction: LibraryTransaction): void {
    const index = this.#open.indexOf(transaction)
    if (index === -1) return
    for (const later of this.#open.splice(index + 1)) later.abort(rolledBackWithAnother())
    this.#changed()
  }

  ended (transaction: LibraryTransaction): void {
    const index = this.#open.indexOf(transaction)
    if (index !== -1) this.#open.splice(index, 1)
    this.#changed()
  }

  #changed (): void {
    const waiters = this.#waiters
    this.#waiters = []
    for (const proceed of waiters) proceed()
  }
}

function waitedTooLong (): Error {
  return pgScopeError('FST_PG_SCOPE_SESSION_STATE', `A call in a library's transaction waited ${maxWait} ms for ` +
    'another transaction, which was begun later on the same session and is still open. Inside of the later ' +
    'transaction, use its own client, not that of the one around it.')
}

function sessionEnded (): Error {
  return pgScopeError('FST_PG_SCOPE_SESSION_CLOSED', 'The session ended while a call of a library waited for another ' +
    'transaction.')
}

function rolledBackWithAnother (): Error {
  return pgScopeError('FST_PG_SCOPE_TRANSACTION_ABORTED', 'A library\'s transaction was rolled back with another one ' +
    'of the same session, which was open when it began.')
}
