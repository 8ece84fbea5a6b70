import { Readable } from 'node:stream'
import type { QueryResult } from 'pg'
import { isPgScopeError } from '../errors.ts'
import type { Savepoint } from './savepoints.ts'
import { CursorOrigin } from './cursor-call.ts'
import { readStreamArguments } from './stream-arguments.ts'
import { invalidQuery } from '../exchange/invalid-query.ts'
import { InvalidCall, readStatement, Statement } from '../exchange/statement.ts'
import type { StatementSignal } from '../exchange/statement-signal.ts'

/** What a stream needs of its session. */
export interface StreamSession {
  /** Refuses what cannot work over the session's connections. */
  vet (text: string): void
  /** Fails by a call that was refused before it was sent. */
  invalid (error: unknown): void
  /** Sends what `declare` returns when it is its caller's turn; it is told the savepoint that the cursor then stands in. */
  open (declare: (savepoint: Savepoint | null) => Statement[]): void
  /** Sends more to the transaction that is under way; refused where there is none. */
  fetch (statements: Statement[]): void
  /** A signal was aborted. @returns whether a statement of it was sent, whose answer tells what has become of it */
  cancel (signal: StatementSignal): boolean
  /** Resolves to true once the transaction takes statements again, where it was a transaction(fn) that failed which the caller does not stand in. */
  recovery (): Promise<boolean>
}

let count = 0
const noop = (): void => {}

/** For a session that takes nothing more. */
export function refusedStream (error: Error): Readable {
  return new Readable({ objectMode: true, read: noop }).on('error', noop).destroy(error)
}

/**
 * The rows of a cursor: DECLARE and the first FETCH go in one round trip, and the next FETCH is on its way while rows are read
 * (https://www.postgresql.org/docs/current/sql-declare.html).
 */
export class CursorStream extends Readable {
  readonly #session: StreamSession
  readonly #open: Set<CursorStream>
  readonly #cursor = `scope_cursor_${++count}`
  #batchSize = 0
  /** The user's SELECT and the call of stream(), for errors; there is one before anything is sent. */
  #origin!: CursorOrigin
  /** Where the cursor was declared, and goes when that is rolled back; undefined before. */
  savepoint: Savepoint | null | undefined
  #next: Promise<QueryResult> | null = null
  #rows: unknown[] = []
  #index = 0
  #reading = false
  /** The cursor is known to exist. */
  #declared = false

  /** @param open where the stream stands until its last row has come, or it was destroyed */
  constructor (session: StreamSession, open: Set<CursorStream>, text: unknown, valuesOrOptions?: unknown, options?: unknown) {
    super({ objectMode: true, highWaterMark: 16 })
    // A failure is the session's too, which refuses to commit: one that nobody listens for must not end the process.
    this.on('error', noop)
    this.#session = session
    this.#open = open
    try {
      const { values, batchSize } = readStreamArguments(text, valuesOrOptions, options)
      this.#batchSize = batchSize
      const select = readStatement(text, values)
      if (select.name !== undefined) throw invalidQuery('`name` prepares a statement, and a cursor is declared anew each time: leave it out')
      session.vet(select.text)
      this.#origin = new CursorOrigin(`DECLARE ${this.#cursor} NO SCROLL CURSOR FOR `, select, CursorStream)
      const declare = this.#origin.declare(select.values)
      declare.altersMeaning = select.altersMeaning
      declare.traces = select.traces
      open.add(this)
      const first = this.#origin.call(this.#forward)
      this.#next = declare.promise.then(() => first.promise)
      this.#next.catch(noop)
      session.open((savepoint) => {
        if (this.destroyed) return this.#failure()
        this.savepoint = savepoint
        return [declare, first]
      })
      this.#origin.signal?.listen((error) => {
        session.cancel(this.#origin.signal!)
        this.destroy(error)
      })
    } catch (error) {
      session.invalid(error)
      this.destroy(error as Error)
    }
  }

  override _read (): void {
    if (!this.#reading) this.#pump().catch((error) => this.gone(error))
  }

  /** Its cursor is closed already, or went with what it was opened in. */
  gone (error: Error): void {
    this.#open.delete(this)
    this.destroy(error)
  }

  /** Also by an early `break`, which comes as an AbortError. */
  override _destroy (error: Error | null, callback: (error: Error | null) => void): void {
    this.#close()
    callback(error)
  }

  #close (): void {
    if (this.#open.delete(this) && this.savepoint !== undefined) this.#session.fetch([new Statement(`CLOSE ${this.#cursor}`), ...this.#failure()])
    this.#origin?.signal?.forget()
  }

  /** What the session fails with where the signal ended the stream, although the server may have answered all that was sent. */
  #failure (): Statement[] {
    const error = this.#origin.signal?.error ?? null
    return error !== null && this.errored === error ? [new InvalidCall(error)] : []
  }

  async #pump (): Promise<void> {
    this.#reading = true
    try {
      do {
        while (this.#index < this.#rows.length) {
          if (!this.push(this.#rows[this.#index++])) return
        }
        if (this.#next === null) return this.#last()
        const { rows } = await this.#next.catch((error) => this.#again(error))
        if (this.destroyed) return // and its cursor is closed
        this.#declared = true
        this.#rows = rows
        this.#index = 0
        this.#next = rows.length < this.#batchSize ? null : this.#fetch()
      } while (!this.destroyed)
    } finally {
      this.#reading = false
    }
  }

  #last (): void {
    this.#close()
    this.push(null)
  }

  /** A FETCH that never ran, for it came behind the failed statement of a transaction(fn) that is no business of the stream. */
  async #again (error: unknown): Promise<QueryResult> {
    const refused = isPgScopeError(error) && error.code === 'FST_PG_SCOPE_TRANSACTION_ABORTED'
    if (!refused || !this.#declared || !(await this.#session.recovery()) || this.destroyed) throw error
    return this.#fetch().catch((error) => this.#again(error))
  }

  get #forward (): string {
    return `FETCH FORWARD ${this.#batchSize} FROM ${this.#cursor}`
  }

  #fetch (): Promise<QueryResult> {
    const fetch = this.#origin.call(this.#forward)
    this.#session.fetch([fetch])
    // A stream that is destroyed does not come back for it.
    fetch.promise.catch(noop)
    return fetch.promise
  }
}
