import pg from 'pg'
import type { FieldDef } from 'pg'
import type { Connection } from '../pool/connection.ts'
import type { Lease } from '../pool/lease.ts'
import { Messages } from '../postgres/messages.ts'
import { isStalePlan } from '../postgres/sqlstate.ts'
import type { Statement } from './statement.ts'

/** The part of pg's Connection that a batch needs. */
interface Wire {
  sendCopyFail (message: string): void
  once (event: 'readyForQuery' | 'end', listener: () => void): void
  off (event: 'readyForQuery' | 'end', listener: () => void): void
}

export interface BatchFailure {
  readonly error: unknown
  /** The index of the statement that failed; those before it were answered, those behind it never ran. */
  readonly statement: number
  /** The connection is gone, and with it the transaction. */
  lost: boolean
  /** A prepared statement's plan no longer fits its table, which somebody altered: sent again, it is prepared anew. */
  readonly stalePlan: boolean
}

export type BatchDone = (batch: Batch, failure: BatchFailure | null) => void

/** Writes behind whatever is under way; `done` is called once, when the server is ready again or the connection is lost. */
export function send (lease: Lease, statements: readonly Statement[], done: BatchDone): void {
  const { connection } = lease
  connection.client.query(new Batch(statements, connection, done) as unknown as pg.Submittable)
}

/** Tags of what takes prepared statements away. */
const forgets = /^(?:DEALLOCATE|DISCARD ALL)/

const messages = new Messages()
const sync = messagesOf(() => messages.sync())

function messagesOf (write: () => void): Buffer {
  write()
  return messages.take()
}

/**
 * Several statements under one Sync, so one round trip: a failure in any of them skips the rest
 * (https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-PIPELINING).
 * Settles at ReadyForQuery, never at ErrorResponse: only then is the transaction's status known.
 */
export class Batch {
  readonly statements: readonly Statement[]
  /** pg reads these of every query: it must not show a name, because pg would take the first ParseComplete for it. */
  declare readonly name: undefined
  declare callback: (() => void) | undefined
  #current = 0
  #failure: BatchFailure | null = null
  #settled = false
  readonly #connection: Connection
  readonly #done: BatchDone

  constructor (statements: readonly Statement[], connection: Connection, done: BatchDone) {
    this.statements = statements
    this.#connection = connection
    this.#done = done
  }

  submit (): void {
    const [first] = this.statements
    if (this.statements.length === 1 && first!.simple) messages.query(first!.text)
    else {
      for (const statement of this.statements) this.#write(statement)
      messages.sync()
    }
    this.#connection.write(messages.take())
  }

  #write (statement: Statement): void {
    const { prepared } = this.#connection
    const name = prepared === null ? undefined : statement.name
    if (name === undefined) messages.parse('', statement.text)
    else this.#prepare(name, statement.text)
    messages.bind(name ?? '', statement.values)
    if (statement.describes) messages.describe()
    messages.execute()
  }

  #prepare (name: string, text: string): void {
    const prepared = this.#connection.prepared!
    const known = prepared.get(name)
    if (known?.ready === true && known.text === text) return
    // Closing a name that does not exist is no error, and PgBouncer refuses a second Parse of a name whose first one failed.
    if (known !== undefined) messages.close(name)
    const stale = known?.stale ?? 0
    messages.parse(name, text + ' '.repeat(stale))
    prepared.set(name, { text, ready: false, stale })
  }

  #forget ({ name }: Statement): void {
    const prepared = name === undefined ? undefined : this.#connection.prepared?.get(name)
    if (prepared === undefined) return
    prepared.ready = false
    prepared.stale++
  }

  #executed (statement: Statement, tag: string): void {
    if (statement.name !== undefined) {
      const prepared = this.#connection.prepared?.get(statement.name)
      if (prepared !== undefined) prepared.ready = true
    } else if (forgets.test(tag)) this.#connection.prepared?.clear()
  }

  handleRowDescription (message: { fields: FieldDef[] }): void {
    this.statements[this.#current]!.fields(message.fields, this.#connection.types)
  }

  handleDataRow (message: { fields: unknown[] }): void {
    this.statements[this.#current]!.row(message.fields)
  }

  handleCommandComplete (message: { text: string }): void {
    const statement = this.statements[this.#current]!
    statement.command(message, this.#connection.types)
    this.#executed(statement, message.text)
    if (!statement.simple) this.#current++
  }

  handleEmptyQuery (): void {
    if (!this.statements[this.#current]!.simple) this.#current++
  }

  handleError (error: unknown, wire: Wire): void {
    if (this.#settled) return
    const answered = error instanceof pg.DatabaseError && error.severity !== 'FATAL' && error.severity !== 'PANIC'
    this.#failure ??= { error, statement: this.#current, lost: !answered, stalePlan: isStalePlan(error) }
    if (this.#failure.stalePlan) this.#forget(this.statements[this.#current]!)
    if (!answered) {
      this.#failure = { error, statement: this.#current, lost: true, stalePlan: false }
      return this.#settle()
    }
    // ReadyForQuery follows an ErrorResponse, unless the connection ends first; pg no longer counts this query as the active one.
    const ready = (): void => {
      wire.off('end', end)
      this.#settle()
    }
    const end = (): void => {
      wire.off('readyForQuery', ready)
      this.#failure!.lost = true
      this.#settle()
    }
    wire.once('readyForQuery', ready)
    wire.once('end', end)
  }

  handleReadyForQuery (): void {
    this.#settle()
  }

  handlePortalSuspended (): void {}

  handleCopyData (): void {
    this.statements[this.#current]!.copyData()
  }

  handleCopyInResponse (wire: Wire): void {
    wire.sendCopyFail('a session cannot send COPY data: use app.db.lease(fn) with pg-copy-streams')
    // The Sync behind the statement was swallowed by the copy mode (https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-COPY).
    if (!this.statements[this.#current]!.simple) this.#connection.write(sync)
  }

  #settle (): void {
    if (this.#settled) return
    this.#settled = true
    this.#done(this, this.#failure)
  }
}

// A pipelined client takes only what passes `instanceof pg.Query`; inheriting by the prototype alone spares each batch
// the EventEmitter and the result that pg.Query's constructor makes.
Object.setPrototypeOf(Batch.prototype, pg.Query.prototype)
