import { Readable } from 'node:stream'
import type { QueryResult } from 'pg'
import { isPgScopeError } from '../errors.ts'
import type { EngineIdentity } from '../../types/telemetry.ts'
import type { Savepoint } from './savepoint.ts'
import { CursorOrigin } from './cursor-call.ts'
import { readStreamArguments } from './stream-arguments.ts'
import { invalidQuery } from '../exchange/invalid-query.ts'
import { type Call, InvalidCall } from '../exchange/call.ts'
import { readStatement } from '../exchange/read-statement.ts'
import { Statement } from '../exchange/statement.ts'
import type { StatementSignal } from '../exchange/statement-signal.ts'
import type { SessionIdentity } from '../../types/telemetry.ts'
import type { RequestLabel } from '../telemetry/request-label.ts'

/** What a stream needs of its session. */
export interface StreamSession {
  /** For telemetry, like the next two. */
  readonly engine: EngineIdentity
  readonly session: SessionIdentity
  readonly label: RequestLabel | undefined
  /** Rejects statements that cannot work over the session's connections. */
  vet (call: Call): void
  /** Fails the session because of a call that was rejected before it was sent. */
  invalid (error: unknown): void
  /**
   * Sends what `declare` returns when it is the caller's turn. `declare` gets the savepoint in which the cursor is
   * opened.
   */
  open (text: string, declare: (savepoint: Savepoint | null) => Statement[]): void
  /** Sends statements in the open transaction; fails them if there is none. */
  fetch (statements: Statement[]): void
  /**
   * A signal was aborted.
   *
   * @returns whether a statement with this signal was sent; its answer then decides what has happened
   */
  cancel (signal: StatementSignal): boolean
  /**
   * Resolves to true once the transaction accepts statements again, if the failure was in a transaction(fn) that the
   * caller is not inside; otherwise to false.
   */
  recovery (): Promise<boolean>
}

let count = 0
const noop = (): void => {}

/** The stream of a call that was rejected. */
export function failedStream (error: Error): Readable {
  return new Readable({ objectMode: true, read: noop }).on('error', noop).destroy(error)
}

/**
 * The rows of a cursor. DECLARE and the first FETCH share one round trip, and the next FETCH is sent before the rows of
 * the last one are read (https://www.postgresql.org/docs/current/sql-declare.html).
 */
export class CursorStream extends Readable {
  readonly #session: StreamSession
  readonly #openStreams: Set<CursorStream>
  readonly #cursor = `scope_cursor_${++count}`
  #batchSize = 0
  /** Set before anything is sent. */
  #origin!: CursorOrigin
  /**
   * The savepoint in which the cursor was declared; rolling back to it closes the cursor. undefined: not declared yet.
   */
  savepoint: Savepoint | null | undefined
  #next: Promise<QueryResult> | null = null
  #rows: unknown[] = []
  #index = 0
  #reading = false
  /** A FETCH has been answered, so the cursor existed. */
  #isDeclared = false

  /** @param openStreams contains the stream until its last row was read or it was destroyed */
  constructor (
    session: StreamSession, openStreams: Set<CursorStream>, text: unknown, valuesOrOptions?: unknown, options?: unknown
  ) {
    super({ objectMode: true, highWaterMark: 16 })
    // The session fails too and refuses to commit, so an 'error' event without a listener must not end the process.
    this.on('error', noop)
    this.#session = session
    this.#openStreams = openStreams
    try {
      const { values, batchSize } = readStreamArguments(text, valuesOrOptions, options)
      this.#batchSize = batchSize
      const select = readStatement(text, values)
      if (select.name !== undefined) {
        throw invalidQuery('`name` prepares a statement, but a cursor is declared each time: leave it out')
      }
      session.vet(select)
      this.#origin = new CursorOrigin(`DECLARE ${this.#cursor} NO SCROLL CURSOR FOR `, select, CursorStream)
      const declare = this.#origin.declare(select.values)
      declare.altersMeaning = select.altersMeaning
      declare.hasOtherEffects = select.hasOtherEffects
      declare.traces = select.traces
      declare.uncheckedText = select.uncheckedText
      openStreams.add(this)
      const first = this.#origin.fetch(this.#fetchText)
      this.#next = declare.promise.then(() => first.promise)
      this.#next.catch(noop)
      session.open(select.text, (savepoint) => {
        if (this.destroyed) return this.#signalFailure()
        this.savepoint = savepoint
        this.#origin.trace(declare, 'declare', session)
        this.#origin.trace(first, 'fetch', session)
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
    if (!this.#reading) this.#pump().catch((error) => this.cursorClosed(error))
  }

  /** The cursor does not exist any more: destroys the stream without sending CLOSE. */
  cursorClosed (error: Error): void {
    this.#openStreams.delete(this)
    this.destroy(error)
  }

  /** Also called for an early `break`, with an AbortError. */
  override _destroy (error: Error | null, callback: (error: Error | null) => void): void {
    this.#close()
    callback(error)
  }

  #close (): void {
    if (this.#openStreams.delete(this) && this.savepoint !== undefined) {
      this.#session.fetch([new Statement(`CLOSE ${this.#cursor}`), ...this.#signalFailure()])
    }
    this.#origin?.signal?.release()
  }

  /** Fails the session if the signal ended the stream, even if the server has answered every statement of it. */
  #signalFailure (): Statement[] {
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
        if (this.#next === null) return this.#end()
        const { rows } = await this.#next.catch((error) => this.#fetchAgain(error))
        if (this.destroyed) return // the cursor is closed already
        this.#isDeclared = true
        this.#rows = rows
        this.#index = 0
        this.#next = rows.length < this.#batchSize ? null : this.#fetch()
      } while (!this.destroyed)
    } finally {
      this.#reading = false
    }
  }

  #end (): void {
    this.#close()
    this.push(null)
  }

  /** Repeats a FETCH that never ran because it followed the failed statement of an unrelated transaction(fn). */
  async #fetchAgain (error: unknown): Promise<QueryResult> {
    const neverRan = isPgScopeError(error) && error.code === 'FST_PG_SCOPE_TRANSACTION_ABORTED'
    if (!neverRan || !this.#isDeclared || !(await this.#session.recovery()) || this.destroyed) throw error
    return this.#fetch().catch((error) => this.#fetchAgain(error))
  }

  get #fetchText (): string {
    return `FETCH FORWARD ${this.#batchSize} FROM ${this.#cursor}`
  }

  #fetch (): Promise<QueryResult> {
    const fetch = this.#origin.fetch(this.#fetchText)
    this.#origin.trace(fetch, 'fetch', this.#session)
    this.#session.fetch([fetch])
    // A destroyed stream never reads this promise.
    fetch.promise.catch(noop)
    return fetch.promise
  }
}
