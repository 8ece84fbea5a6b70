import type { Connection } from '../pool/connection.ts'
import { isHeldBack } from './pooler-check.ts'
import type { Statement } from './statement.ts'
import type { StatementSignal } from './statement-signal.ts'
import type { TransactionIdentity } from './transaction-identity.ts'

/** Sent statements are cut off the array only when there are at least this many of them. */
const cutAt = 1000

/**
 * The statements of a transaction that were called and are not sent: they wait for the connection, for the answer to
 * BEGIN, or for the answer to the statement that holds the pipeline. The cost of a statement does not depend on the
 * number of waiting ones.
 */
export class StatementQueue {
  /** Asks for the id of the transaction after the first statement that writes; null without `resolveCommits`. */
  identity: TransactionIdentity | null = null
  #statements: Statement[] = []
  /** How many at the front of the array were taken. */
  #taken = 0
  /** A statement or setting may have changed what texts mean: nothing more is prepared automatically. */
  #isMeaningAltered = false

  get isEmpty (): boolean {
    return this.#statements.length === this.#taken
  }

  /** Why the first statement must not be sent, or null. */
  get rejection (): unknown {
    return this.#statements[this.#taken]?.rejection ?? null
  }

  put (statements: readonly Statement[]): void {
    for (const statement of statements) {
      this.#isMeaningAltered ||= statement.altersMeaning
      if (this.#isMeaningAltered) statement.automatic = false
      this.#statements.push(statement)
      const question = this.identity === null ? null : this.identity.after(statement)
      if (question !== null) this.#statements.push(question)
    }
  }

  /** Returns statements to the front, to be sent as if for the first time. */
  putBack (statements: readonly Statement[]): void {
    this.#statements = [...statements, ...this.takeAll()]
    for (const statement of this.#statements) statement.restart()
  }

  takeAll (): Statement[] {
    return this.#take(this.#statements.length)
  }

  /** Takes what may be sent under one Sync with BEGIN: often everything, sometimes nothing. */
  takeFirstBatch (connection: Connection): Statement[] {
    return this.#take(this.#endOfBatch(connection))
  }

  /**
   * Takes the statements of the next batch.
   *
   * @param isBehindOthers earlier statements are unanswered
   * @returns null if no statement may be sent now
   */
  takeBatch (isBehindOthers: boolean, connection: Connection): Statement[] | null {
    if (this.isEmpty || !maySend(this.#statements[this.#taken]!, connection)) return null
    const end = Math.max(this.#taken + 1, this.#endOfBatch(connection))
    // A CancelRequest for it must not cancel the statements before it.
    if (isBehindOthers && this.#statements[end - 1]!.signal !== null) return null
    return this.#take(end)
  }

  /** Whether the first statement of a caller has this signal. */
  isFirst (signal: StatementSignal): boolean {
    const first = this.#statements.find(({ describes, rejection }, i) => {
      return i >= this.#taken && (describes || rejection !== null)
    })
    return first?.signal === signal
  }

  /** A setting may change what texts mean: no statement is prepared automatically. */
  prepareNone (): void {
    this.#isMeaningAltered = true
    for (let i = this.#taken; i < this.#statements.length; i++) this.#statements[i]!.automatic = false
  }

  /** The end of the range of statements, from the first on, that may share a Sync. */
  #endOfBatch (connection: Connection): number {
    let called: Statement | null = null
    for (let i = this.#taken; i < this.#statements.length; i++) {
      const statement = this.#statements[i]!
      if (statement.simple || !maySend(statement, connection)) return i
      // A CancelRequest must not cancel another call. Only a stream has several statements with one signal.
      if (called !== null && statement.signal !== called.signal) return i
      if (statement.isCopy) return i + 1
      if (statement.describes) called ??= statement
    }
    return this.#statements.length
  }

  #take (end: number): Statement[] {
    const statements = this.#statements
    const takesAll = end === statements.length
    if (takesAll) this.#statements = []
    if (takesAll && this.#taken === 0) return statements
    const taken = statements.slice(this.#taken, end)
    if (takesAll) this.#taken = 0
    else if (end > cutAt && end * 2 > statements.length) {
      this.#statements = statements.slice(end)
      this.#taken = 0
    } else this.#taken = end
    return taken
  }
}

function maySend (statement: Statement, connection: Connection): boolean {
  return statement.rejection === null && !isHeldBack(statement, connection)
}
