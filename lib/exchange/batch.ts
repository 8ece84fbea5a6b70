import pg from 'pg'
import type { FieldDef } from 'pg'
import type { Connection } from '../pool/connection.ts'
import type { Lease } from '../pool/lease.ts'
import { ProtocolViolation } from '../postgres/backend-messages.ts'
import { Messages } from '../postgres/messages.ts'
import { endsConnection, isFarewell, isReadOnlyRefusal } from '../postgres/sqlstate.ts'
import { statementsOf } from '../postgres/statement-words.ts'
import { type BatchFailure, unsentBatch } from './batch-failure.ts'
import { recordExecuted, recordFailure, recordSkipped } from './preparation.ts'
import type { Statement } from './statement.ts'
import type { RequestLabel } from '../telemetry/request-label.ts'

/** The part of pg's Connection that a batch needs. */
interface Wire {
  sendCopyFail (message: string): void
  once (event: 'readyForQuery' | 'end', listener: () => void): void
  off (event: 'readyForQuery' | 'end', listener: () => void): void
}

export type BatchDone = (batch: Batch, failure: BatchFailure | null) => void

/** Writes a batch after those already sent. `done` is called once: at ReadyForQuery, or when the connection is lost. */
export function send (lease: Lease, statements: readonly Statement[], done: BatchDone): void {
  const { connection } = lease
  connection.send(new Batch(statements, connection, lease.label, done) as unknown as pg.Query)
}

/** Tags that contain the number of rows. */
const tagOfRows = /^(?:SELECT|FETCH) (\d+)$/

const messages = new Messages()

/**
 * Several statements under one Sync, in one round trip. If one fails, the server skips the rest
 * (https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-PIPELINING).
 *
 * pg treats a batch as a query: it calls submit() to write it and handle…() for each message of the answer. The batch
 * settles at ReadyForQuery and not at ErrorResponse, because only then the transaction's status is known.
 */
export class Batch {
  readonly statements: readonly Statement[]
  /** The request, for notices that arrive with the answers. */
  readonly label: RequestLabel | undefined
  /** Read by pg. A name would make pg register the first ParseComplete under it, so there is none. */
  declare readonly name: undefined
  declare callback: (() => void) | undefined
  #current = 0
  /** The number of columns and of rows received for the current statement; null: not described in this batch. */
  #columns: number | null = null
  #rows = 0
  /** A CommandComplete arrived for a simple statement, whose text may hold several. */
  #isSimpleAnswered = false
  #failure: BatchFailure | null = null
  #isSettled = false
  /** Until it is written, nothing of it can have run. */
  #isWritten = false
  readonly #connection: Connection
  readonly #done: BatchDone

  constructor (
    statements: readonly Statement[], connection: Connection, label: RequestLabel | undefined, done: BatchDone
  ) {
    this.statements = statements
    this.label = label
    this.#connection = connection
    this.#done = done
  }

  /** @returns the error if it could not be written, which pg passes to handleError() */
  submit (): Error | undefined {
    const { statements } = this
    const [first] = statements
    try {
      if (statements.length === 1 && first!.simple) {
        messages.query(first!.text)
        this.#recordEffects(first!)
      } else {
        for (this.#current = 0; this.#current < statements.length; this.#current++) {
          this.#write(statements[this.#current]!)
        }
        messages.sync()
      }
      this.#current = 0
      messages.send(this.#connection)
      this.#isWritten = true
    } catch (error) {
      messages.discard()
      this.#failure = unsentBatch(this.#current, error)
      this.#current = 0
      return error as Error
    }
  }

  #write (statement: Statement): void {
    const { prepared: statements, types, pooled } = this.#connection
    const prepared = statement.unprepared ? null : statements?.use(statement, messages) ?? null
    statement.prepared = prepared
    if (prepared === null) messages.parse('', statement.text)
    messages.bind(prepared?.name ?? '', statement.values)
    if (statement.describes) {
      // The columns of a prepared statement do not change: after ALTER TABLE the server rejects it. A pooler, however,
      // may have prepared it again on another server connection, with the new columns.
      if (prepared?.fields === undefined || pooled || !statement.hasStablePlan) messages.describe()
      else if (prepared.fields !== null) statement.fields(prepared.fields, types)
    }
    messages.execute()
    this.#recordEffects(statement)
  }

  /** Called when a statement is written, because the next ones are written before its answer arrives. */
  #recordEffects ({ deallocates, altersMeaning, changesMode, traces }: Statement): void {
    if (changesMode) this.#connection.mayBeReadOnly = true
    this.#connection.leaves(traces)
    if (deallocates) this.#connection.prepared?.dropped(true)
    if (altersMeaning) this.#connection.prepared?.unsettled()
  }

  /**
   * Only a FATAL error in place of the answer to Bind proves that a statement was not begun. The simple protocol has no
   * Bind, and when a connection ends without an error, answers may have been lost.
   */
  get #begun (): number {
    if (!this.#isWritten) return 0
    const { bound, dismissed } = this.#connection
    if (!dismissed || this.statements[0]!.simple) return this.statements.length
    return bound ? this.#current + 1 : this.#current
  }

  handleRowDescription (message: { fields: FieldDef[] }): void {
    const statement = this.#statement
    if (this.#columns !== null) throw new ProtocolViolation('columns were described twice')
    this.#columns = message.fields.length
    if (statement.prepared !== null) statement.prepared.fields = message.fields
    statement.fields(message.fields, this.#connection.types)
  }

  handleDataRow (message: { fields: unknown[] }): void {
    const statement = this.#statement
    this.#rows++
    let fields: unknown[]
    try {
      fields = message.fields
    } catch (error) { // a value of more than 512 MiB
      // The connection is replaced, because both ends keep the memory that they allocated for the value.
      this.#connection.expiresAt = 0
      return statement.discardResult(error)
    }
    const columns = this.#columnsOf(statement)
    if (columns === undefined ? statement.describes : columns !== fields.length) {
      throw new ProtocolViolation('a row does not have the columns of its statement')
    }
    statement.row(fields)
  }

  handleCommandComplete (message: { text: string }): void {
    const statement = this.#statement
    if (this.#isSimpleAnswered && !statement.several) throw new ProtocolViolation('a statement was answered twice')
    const rows = tagOfRows.exec(message.text)
    // The tag of CREATE TABLE AS is SELECT too, but it has no columns.
    if (rows !== null && this.#columnsOf(statement) !== undefined && Number(rows[1]) !== this.#rows) {
      throw new ProtocolViolation(`${rows[1]} rows were announced, ${this.#rows} arrived`)
    }
    statement.command(message, this.#connection.types)
    this.#next(statement, message.text)
  }

  handleEmptyQuery (): void {
    const statement = this.#statement
    if (this.#columns !== null || this.#isSimpleAnswered || statementsOf(statement.text).length > 0) {
      throw new ProtocolViolation('a statement was answered as an empty one')
    }
    this.#next(statement, '')
  }

  /** The statement that is being answered. */
  get #statement (): Statement {
    const statement = this.statements[this.#current]
    if (statement === undefined) throw new ProtocolViolation('an answer arrived that belongs to no statement')
    return statement
  }

  /** The number of its columns, from this batch or from when it was prepared; undefined: not described. */
  #columnsOf ({ prepared }: Statement): number | undefined {
    return this.#columns ?? prepared?.fields?.length
  }

  /** @param tag the tag of the command, '' for an empty query */
  #next (statement: Statement, tag: string): void {
    this.#connection.bound = false
    recordExecuted(this.#connection, statement, tag)
    this.#columns = null
    this.#rows = 0
    if (statement.simple) this.#isSimpleAnswered = true
    else this.#current++
  }

  /** @param wire pg's connection, if the server continues after the error */
  handleError (error: unknown, wire?: Wire): void {
    if (this.#isSettled) return
    // One past the last statement if the implicit COMMIT at Sync failed.
    const statement = this.#current
    if (this.#failure?.unsent) {
      recordSkipped(this.statements, statement)
      return this.#settle()
    }
    if (isFarewell(error)) this.#connection.dismissed = true
    const begun = this.#begun
    const ends = !(error instanceof pg.DatabaseError) || endsConnection(error) || this.#connection.lost !== null
    if (isReadOnlyRefusal(error) && !this.#connection.mayBeReadOnly) this.#connection.doubt()
    if (this.#failure === null) this.#failedStatement(ends)?.attribute(error)
    const unprepared = !ends && this.#failure === null &&
      recordFailure(this.#connection, this.statements[statement], error)
    recordSkipped(this.statements, statement)
    if (ends) {
      this.#failure = { error, statement, unsent: false, lost: true, begun, unprepared: false }
      return this.#settle()
    }
    this.#failure ??= { error, statement, unsent: false, lost: false, begun, unprepared }
    // ReadyForQuery follows the ErrorResponse, unless the connection ends first. pg no longer passes it to this query.
    const ready = (): void => {
      wire!.off('end', end)
      this.#settle()
    }
    const end = (): void => {
      wire!.off('readyForQuery', ready)
      this.#failure!.lost = true
      this.#settle()
    }
    wire!.once('readyForQuery', ready)
    wire!.once('end', end)
  }

  /**
   * The statement that an error is attributed to.
   *
   * @param ends it ended the connection: prefers a caller's statement to BEGIN
   */
  #failedStatement (ends: boolean): Statement | undefined {
    const unanswered = this.statements.slice(this.#current)
    return (ends ? unanswered.find(({ describes }) => describes) : undefined) ?? unanswered[0] ?? this.statements.at(-1)
  }

  handleReadyForQuery (): void {
    const answered = this.#isSimpleAnswered || this.#current === this.statements.length
    if (this.#failure === null && !answered) {
      const error = new ProtocolViolation('the server was ready before it had answered')
      this.#connection.destroy(error)
      // pg would not pass the error to this query any more.
      return this.handleError(error)
    }
    this.#settle()
  }

  handlePortalSuspended (): void {
    throw new ProtocolViolation('the server suspended a portal although all rows were requested')
  }

  handleCopyData (): void {
    const statement = this.#statement
    if (!statement.isCopy) throw new ProtocolViolation('COPY data arrived for a statement that is not COPY')
    statement.copyData()
  }

  handleCopyInResponse (wire: Wire): void {
    const statement = this.#statement
    if (!statement.isCopy) throw new ProtocolViolation('COPY data was requested for a statement that is not COPY')
    wire.sendCopyFail('a session cannot send COPY data: use app.db.lease(fn) with pg-copy-streams')
    // In copy mode the server ignored the Sync after the statement
    // (https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-COPY).
    if (statement.simple) return
    messages.sync()
    messages.send(this.#connection)
  }

  #settle (): void {
    if (this.#isSettled) return
    this.#isSettled = true
    this.#connection.bound = false
    this.#connection.answered()
    this.#done(this, this.#failure)
  }
}

// A pipelined client accepts only objects that pass `instanceof pg.Query`. Inheriting only the prototype avoids the
// EventEmitter and the result that pg.Query's constructor would allocate for each batch.
Object.setPrototypeOf(Batch.prototype, pg.Query.prototype)
