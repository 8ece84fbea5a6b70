import pg from 'pg'
import type { Connection as WireConnection, CustomTypesConfig, FieldDef } from 'pg'
import { isStalePlan } from '../postgres/sqlstate.ts'
import type { PreparedStatements } from '../pool/connection.ts'
import type { Lease } from '../pool/lease.ts'
import type { Statement } from './statement.ts'

/** The part of pg's Connection that a batch writes to. */
type Wire = WireConnection & {
  parse (query: { text: string, name?: string | undefined }): void
  bind (config: { statement?: string | undefined, values: unknown[] }): void
  describe (target: { type: 'P' | 'S', name?: string }): void
  close (target: { type: 'P' | 'S', name: string }): void
  execute (config: object): void
  sync (): void
  query (text: string): void
  sendCopyFail (message: string): void
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

/** Writes at once, behind whatever is under way; `done` is called once, when the server is ready again or the connection is lost. */
export function send (lease: Lease, statements: readonly Statement[], done: BatchDone): void {
  const { client, prepared, types } = lease.connection
  client.query(new Batch(statements, prepared, types, done) as unknown as pg.Submittable)
}

/** Tags of what takes prepared statements away. */
const forgets = /^(?:DEALLOCATE|DISCARD ALL)/

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
  readonly #prepared: PreparedStatements | null
  readonly #types: CustomTypesConfig
  readonly #done: BatchDone

  constructor (statements: readonly Statement[], prepared: PreparedStatements | null, types: CustomTypesConfig, done: BatchDone) {
    this.statements = statements
    this.#prepared = prepared
    this.#types = types
    this.#done = done
  }

  submit (wire: Wire): void {
    wire.stream.cork()
    if (this.statements.length === 1 && this.statements[0]!.several) wire.query(this.statements[0]!.text)
    else {
      for (const statement of this.statements) this.#write(statement, wire)
      wire.sync()
    }
    wire.stream.uncork()
  }

  #write ({ text, name: wanted, values, describes }: Statement, wire: Wire): void {
    const name = this.#prepared === null ? undefined : wanted
    if (name === undefined) wire.parse({ text })
    else this.#prepare(name, text, wire)
    wire.bind({ statement: name, values })
    if (describes) wire.describe({ type: 'P' })
    wire.execute({})
  }

  #prepare (name: string, text: string, wire: Wire): void {
    const known = this.#prepared!.get(name)
    if (known?.ready === true && known.text === text) return
    // Closing a name that does not exist is no error, and PgBouncer refuses a second Parse of a name whose first one failed.
    if (known !== undefined) wire.close({ type: 'S', name })
    const stale = known?.stale ?? 0
    wire.parse({ text: text + ' '.repeat(stale), name })
    this.#prepared!.set(name, { text, ready: false, stale })
  }

  #forget ({ name }: Statement): void {
    const prepared = name === undefined ? undefined : this.#prepared?.get(name)
    if (prepared === undefined) return
    prepared.ready = false
    prepared.stale++
  }

  #executed (statement: Statement, tag: string): void {
    if (statement.name !== undefined) {
      const prepared = this.#prepared?.get(statement.name)
      if (prepared !== undefined) prepared.ready = true
    } else if (forgets.test(tag)) this.#prepared?.clear()
  }

  handleRowDescription (message: { fields: FieldDef[] }): void {
    this.statements[this.#current]!.fields(message.fields, this.#types)
  }

  handleDataRow (message: { fields: unknown[] }): void {
    this.statements[this.#current]!.row(message.fields)
  }

  handleCommandComplete (message: { text: string }): void {
    const statement = this.statements[this.#current]!
    statement.command(message, this.#types)
    this.#executed(statement, message.text)
    if (!statement.several) this.#current++
  }

  handleEmptyQuery (): void {
    if (!this.statements[this.#current]!.several) this.#current++
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
    if (!this.statements[this.#current]!.several) wire.sync()
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
