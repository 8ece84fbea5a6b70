import { pgScopeError } from '../errors.ts'
import { modeStatements, type TransactionModes } from '../library-source.ts'
import type { OwnedSession, Savepoint, Session } from '../../types/session.ts'
import { asDriverError } from './driver-error.ts'

const noop = (): void => {}

/** The transaction itself, without a name, or a SAVEPOINT in it. */
interface Level {
  readonly name: string | null
  readonly savepoint: Savepoint
}

/** The transactions of libraries on one session. */
export interface TransactionOrder {
  readonly session: Session
  turnOf (transaction: LibraryTransaction): Promise<void> | null
  abortInside (transaction: LibraryTransaction): void
  ended (transaction: LibraryTransaction): void
}

/** What one client has begun: from BEGIN to COMMIT or ROLLBACK. */
export class LibraryTransaction {
  /** Outermost first. Without BEGIN, or on a session of its own, there are only SAVEPOINTs. */
  readonly levels: Level[] = []
  /** Resolves at the end. */
  readonly ended: Promise<void>
  /** COMMIT or ROLLBACK has ended it. */
  isOver = false
  /** What is around it has ended, and its work with it. */
  isLost = false
  /** Why its work is lost, or null. */
  aborted: Error | null = null
  readonly #order: TransactionOrder
  /** The session of this transaction alone, or null. */
  readonly #own: OwnedSession | null
  #end!: () => void
  /** A failure of the session that nobody awaits, until this transaction has ended. */
  #unfinished: Promise<void> | null = null

  constructor (order: TransactionOrder, own: OwnedSession | null) {
    this.#order = order
    this.#own = own
    this.ended = new Promise((resolve) => { this.#end = resolve })
  }

  get session (): Session {
    return this.#order.session
  }

  /** Null if its calls need not wait: see library-transactions.ts. */
  get turn (): Promise<void> | null {
    return this.#order.turnOf(this)
  }

  /** From now on the session cannot be committed before this transaction has ended: half of it must not be kept. */
  mustEnd (): void {
    // In mode 'autocommit' the session sees to it.
    if (this.session.mode === 'autocommit') return
    const unfinished = this.session.transaction(() => { throw unfinishedError() })
    this.#unfinished = unfinished
    // Neither an unhandled rejection nor, by its own then(), an awaited failure.
    Promise.prototype.then.call(unfinished, undefined, noop)
  }

  /** SET TRANSACTION. @returns the text to send, or null */
  async set (modes: TransactionModes, text: string): Promise<string | null> {
    const { session, levels } = this
    if (this.#own !== null || session.mode === 'autocommit') return text
    const { before, inside } = modeStatements(session, modes)
    if (before !== null) {
      // Nothing was sent yet, and PostgreSQL does not accept it behind a SAVEPOINT.
      const [begun] = levels.splice(0)
      await begun!.savepoint.rollback()
      session.query(before).catch(() => {})
      this.enter(await session.savepoint())
    }
    return inside
  }

  /** @throws why its work cannot be kept: it is rolled back */
  async commit (): Promise<void> {
    try {
      await this.turn
      await this.#release(0)
      await this.#own?.commit()
    } catch (error) {
      // Its own failure must not hide the first one.
      await this.rollback().catch(noop)
      throw this.#own === null && this.session.mode !== 'autocommit' ? error : asDriverError(error)
    }
    await this.#own?.close()
    this.end()
  }

  /** Undoes all of it, whatever is open inside. */
  async rollback (): Promise<void> {
    if (this.aborted === null) {
      this.#order.abortInside(this)
      await (this.#own ?? this.levels[0]?.savepoint)?.[Symbol.asyncDispose]()
    }
    this.end()
  }

  async savepoint (name: string): Promise<void> {
    const isValid = name !== '' && Buffer.byteLength(name) <= 63
    this.levels.push({ name, savepoint: await this.session.savepoint(isValid ? name : undefined) })
  }

  async release (name: string): Promise<void> {
    await this.#release(this.#indexOf(name))
  }

  /** In SQL the savepoint still exists after ROLLBACK TO; on a session it has ended, and another takes its place. */
  async rollbackTo (name: string): Promise<void> {
    const index = this.#indexOf(name)
    await this.levels[index]!.savepoint[Symbol.asyncDispose]()
    this.levels.length = index
    await this.savepoint(name)
  }

  /** SAVEPOINT has begun it, and RELEASE has ended it. */
  get isEmpty (): boolean {
    return this.levels.length === 0 && this.#own === null
  }

  /** It begins with this savepoint, and is lost with it. */
  enter (savepoint: Savepoint): void {
    this.levels.push({ name: null, savepoint })
    const lose = (): void => { if (this.levels[0]?.savepoint === savepoint) this.#lose() }
    this.session.afterCommit(lose)
    this.session.afterRollback(lose)
  }

  /** Its session has ended its own transaction, or what is around this one was rolled back. */
  #lose (): void {
    if (this.isOver || this.aborted !== null) return
    this.isLost = true
    this.#order.ended(this)
    this.abort(lostError())
  }

  abort (error: Error): void {
    this.aborted = error
    this.#finish()
  }

  end (): void {
    this.#order.ended(this)
    this.#finish()
  }

  #finish (): void {
    this.isOver = true
    this.#settle()
    this.#end()
  }

  /** The session may be committed. */
  #settle (): void {
    this.#unfinished?.catch(noop)
  }

  async #release (from: number): Promise<void> {
    while (this.levels.length > from) {
      await this.levels.at(-1)!.savepoint.release()
      this.levels.pop()
    }
  }

  #indexOf (name: string): number {
    const index = this.levels.findLastIndex((level) => level.name === name)
    if (index !== -1) return index
    throw pgScopeError('FST_PG_SCOPE_SESSION_STATE',
      'RELEASE or ROLLBACK TO named a savepoint that does not exist, or has been released or rolled back.')
  }
}

function lostError (): Error {
  return pgScopeError('FST_PG_SCOPE_TRANSACTION_ABORTED', 'A transaction that a library has begun has ended with ' +
    'what is around it: commit() or rollback() of the session, or the rollback of a savepoint. Send BEGIN first.')
}

function unfinishedError (): Error {
  return pgScopeError('FST_PG_SCOPE_TRANSACTION_ABORTED', 'A transaction that a library has begun was neither ' +
    'committed nor rolled back before the end of its session, which is rolled back. Await it.')
}
