import pg from 'pg'
import type { FieldDef } from 'pg'
import { pgScopeError } from '../errors.ts'
import type { Connection } from '../pool/connection.ts'
import type { Lease } from '../pool/lease.ts'
import type { PreparedStatement } from '../postgres/prepared-statements.ts'
import { ProtocolViolation } from '../postgres/backend-messages.ts'
import { Messages } from '../postgres/messages.ts'
import { endsConnection, isDuplicate, isFarewell, isMissing, isStalePlan, mayComeOfPreparing } from '../postgres/sqlstate.ts'
import { becameStale } from './statement-text.ts'
import { statementsOf } from '../postgres/statement-words.ts'
import type { Statement } from './statement.ts'

/** The part of pg's Connection that a batch needs. */
interface Wire {
  sendCopyFail (message: string): void
  once (event: 'readyForQuery' | 'end', listener: () => void): void
  off (event: 'readyForQuery' | 'end', listener: () => void): void
}

export interface BatchFailure {
  readonly error: unknown
  /** The index of the statement that failed; those before it were answered unless `unsent`, those behind it never ran. */
  readonly statement: number
  /** Nothing of the batch was sent, because this statement could not be written. */
  readonly unsent: boolean
  /** The connection is gone, and with it the transaction. */
  lost: boolean
  /** How many of its statements, from the first one on, may have run: the server certainly began none of the others. */
  readonly begun: number
  /** A prepared statement failed before it ran, perhaps only for being prepared: unprepared it may succeed. */
  readonly unprepared: boolean
}

export type BatchDone = (batch: Batch, failure: BatchFailure | null) => void

/** Writes behind whatever is under way; `done` is called once, when the server is ready again or the connection is lost. */
export function send (lease: Lease, statements: readonly Statement[], done: BatchDone): void {
  const { connection } = lease
  connection.client.query(new Batch(statements, connection, lease.label, done))
}

/** Tags of what takes prepared statements away: all of them, or one. */
const forgets = /^(?:DEALLOCATE|DISCARD ALL)/

/** Tags that say how many rows were sent. */
const tagOfRows = /^(?:SELECT|FETCH) (\d+)$/

const messages = new Messages()

/** What keeps a statement from being written: not enough memory, mostly, for what is too large is refused before. */
function notSent (cause: unknown): Error {
  return pgScopeError('FST_PG_SCOPE_QUERY_INVALID', 'The statement could not be written, so that nothing of its batch was sent.', cause)
}

/**
 * Several statements under one Sync, so one round trip: a failure in any of them skips the rest
 * (https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-PIPELINING).
 * Settles at ReadyForQuery, never at ErrorResponse: only then is the transaction's status known.
 */
export class Batch {
  readonly statements: readonly Statement[]
  /** Method and route, for the notices that come with its answers. */
  readonly label: string | undefined
  /** pg reads these of every query: it must not show a name, because pg would take the first ParseComplete for it. */
  declare readonly name: undefined
  declare callback: (() => void) | undefined
  #current = 0
  /** Of the current one: how many columns were described, and how many rows have come. */
  #columns: number | null = null
  #rows = 0
  /** A simple statement was answered; it may hold several. */
  #answered = false
  #failure: BatchFailure | null = null
  #settled = false
  /** Before that nothing of it can have run. */
  #written = false
  readonly #connection: Connection
  readonly #done: BatchDone

  constructor (statements: readonly Statement[], connection: Connection, label: string | undefined, done: BatchDone) {
    this.statements = statements
    this.label = label
    this.#connection = connection
    this.#done = done
  }

  /** @returns why it could not be written: pg hands that to handleError() */
  submit (): Error | undefined {
    const { statements } = this
    const [first] = statements
    try {
      if (statements.length === 1 && first!.simple) {
        messages.query(first!.text)
        this.#leave(first!)
      } else {
        for (this.#current = 0; this.#current < statements.length; this.#current++) this.#write(statements[this.#current]!)
        messages.sync()
      }
      this.#current = 0
      messages.send(this.#connection)
      this.#written = true
    } catch (error) {
      messages.discard()
      this.#failure = { error: notSent(error), statement: this.#current, unsent: true, lost: false, begun: 0, unprepared: false }
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
      // The columns of a prepared statement stay as they were: where its table was altered, the server refuses to run it. A pooler
      // may have prepared it anew on another server connection, whose columns are the new ones.
      if (prepared?.fields === undefined || pooled || !statement.hasStablePlan) messages.describe()
      else if (prepared.fields !== null) statement.fields(prepared.fields, types)
    }
    messages.execute()
    this.#leave(statement)
  }

  /** What stands behind a statement is written before that is answered. */
  #leave ({ deallocates: forgets, altersMeaning, traces }: Statement): void {
    this.#connection.leaves(traces)
    if (forgets) this.#connection.prepared?.dropped(true)
    if (altersMeaning) this.#connection.prepared?.unsettled()
  }

  #executed ({ text, prepared, describes, doubted }: Statement, tag: string): void {
    this.#connection.bound = false
    if (doubted !== null) this.#outdated(text, doubted)
    if (prepared !== null) {
      // Unless what takes it away was sent meanwhile.
      if (prepared.state === 'parsing') prepared.state = 'ready'
      if (describes) prepared.fields ??= null
    }
    // It may have been prepared itself, and have dropped itself.
    if (forgets.test(tag)) this.#connection.prepared?.dropped()
  }

  #skipped (): void {
    for (let i = this.#current; i < this.statements.length; i++) {
      const { prepared } = this.statements[i]!
      if (prepared?.state === 'parsing') prepared.state = 'unknown'
    }
  }

  /**
   * What a failure says of the prepared statement that it met. A value that does not fit may be wrong in itself, as any client can send
   * it: only where the same statement then succeeds unprepared its table is known to have been altered.
   */
  #blamesPreparing (error: pg.DatabaseError): boolean {
    const statement = this.statements[this.#current]
    const { prepared: statements, bound } = this.#connection
    if (statement === undefined || statements === null || bound || !mayComeOfPreparing(error)) return false
    const { text, prepared } = statement
    if (prepared === null) return false
    if (isMissing(error)) statements.dropped()
    else if (isStalePlan(error)) this.#outdated(text, prepared)
    else {
      // What was parsed in this batch was refused for what it is, unless a pooler took it for what it had prepared before.
      const parsed = prepared.state === 'parsing'
      prepared.state = 'unknown'
      if (parsed && !this.#connection.pooled && !isDuplicate(error)) return false
      statement.doubted = prepared
    }
    return true
  }

  #outdated (text: string, prepared: PreparedStatement): void {
    this.#connection.prepared?.outdated(prepared)
    becameStale(text)
  }

  /**
   * Only the server's own word proves that a statement was not begun: its FATAL came where the answer to Bind would have come. The
   * simple protocol has no Bind, and from a connection that just ends answers may be missing.
   */
  get #begun (): number {
    if (!this.#written) return 0
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
      // Both ends have had room made for it.
      this.#connection.expiresAt = 0
      return statement.spoil(error)
    }
    const columns = this.#columnsOf(statement)
    if (columns === undefined ? statement.describes : columns !== fields.length) throw new ProtocolViolation('a row does not have the columns of its statement')
    statement.row(fields)
  }

  handleCommandComplete (message: { text: string }): void {
    const statement = this.#statement
    if (this.#answered && !statement.several) throw new ProtocolViolation('a statement was answered twice')
    const rows = tagOfRows.exec(message.text)
    // CREATE TABLE AS says SELECT too.
    if (rows !== null && this.#columnsOf(statement) !== undefined && Number(rows[1]) !== this.#rows) throw new ProtocolViolation(`${rows[1]} rows were announced, and ${this.#rows} came`)
    statement.command(message, this.#connection.types)
    this.#executed(statement, message.text)
    this.#next(statement)
  }

  handleEmptyQuery (): void {
    const statement = this.#statement
    if (this.#columns !== null || this.#answered || statementsOf(statement.text).length > 0) throw new ProtocolViolation('a statement was taken for an empty one')
    this.#executed(statement, '')
    this.#next(statement)
  }

  /** The one that is being answered. */
  get #statement (): Statement {
    const statement = this.statements[this.#current]
    if (statement === undefined) throw new ProtocolViolation('an answer came that no statement asked for')
    return statement
  }

  /** How many it has, as far as they were described: those of what is prepared were when it was. */
  #columnsOf ({ prepared }: Statement): number | undefined {
    return this.#columns ?? prepared?.fields?.length
  }

  #next (statement: Statement): void {
    this.#columns = null
    this.#rows = 0
    if (statement.simple) this.#answered = true
    else this.#current++
  }

  /** @param wire the connection, where the server goes on behind the error */
  handleError (error: unknown, wire?: Wire): void {
    if (this.#settled) return
    // One past the last where the implicit COMMIT at Sync failed.
    const statement = this.#current
    if (this.#failure?.unsent) {
      this.#skipped()
      return this.#settle()
    }
    if (isFarewell(error)) this.#connection.dismissed = true
    const begun = this.#begun
    const ends = !(error instanceof pg.DatabaseError) || endsConnection(error) || this.#connection.lost !== null
    if (this.#failure === null) this.#blamed(ends)?.blame(error)
    const unprepared = !ends && this.#failure === null && this.#blamesPreparing(error)
    this.#skipped()
    if (ends) {
      this.#failure = { error, statement, unsent: false, lost: true, begun, unprepared: false }
      return this.#settle()
    }
    this.#failure ??= { error, statement, unsent: false, lost: false, begun, unprepared }
    // ReadyForQuery follows an ErrorResponse, unless the connection ends first; pg no longer counts this query as the active one.
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

  /** Which statement an error is about. @param ends whether it ended the connection: then it is about the caller's rather than about BEGIN */
  #blamed (ends: boolean): Statement | undefined {
    const unanswered = this.statements.slice(this.#current)
    return (ends ? unanswered.find(({ describes }) => describes) : undefined) ?? unanswered[0] ?? this.statements.at(-1)
  }

  handleReadyForQuery (): void {
    const answered = this.#answered || this.#current === this.statements.length
    if (this.#failure === null && !answered) {
      const error = new ProtocolViolation('the server was ready before it had answered')
      this.#connection.destroy(error)
      // pg does not count this query as the active one any more.
      return this.handleError(error)
    }
    this.#settle()
  }

  handlePortalSuspended (): void {
    throw new ProtocolViolation('rows were held back although all of them were asked for')
  }

  handleCopyData (): void {
    const statement = this.#statement
    if (!statement.isCopy) throw new ProtocolViolation('COPY data came for another statement')
    statement.copyData()
  }

  handleCopyInResponse (wire: Wire): void {
    const statement = this.#statement
    if (!statement.isCopy) throw new ProtocolViolation('COPY data was asked of another statement')
    wire.sendCopyFail('a session cannot send COPY data: use app.db.lease(fn) with pg-copy-streams')
    // The Sync behind the statement was swallowed by the copy mode (https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-COPY).
    if (statement.simple) return
    messages.sync()
    messages.send(this.#connection)
  }

  #settle (): void {
    if (this.#settled) return
    this.#settled = true
    this.#connection.bound = false
    this.#done(this, this.#failure)
  }
}

// A pipelined client takes only what passes `instanceof pg.Query`; inheriting by the prototype alone spares each batch
// the EventEmitter and the result that pg.Query's constructor makes.
Object.setPrototypeOf(Batch.prototype, pg.Query.prototype)
