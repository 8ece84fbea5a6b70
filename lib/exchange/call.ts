import pg from 'pg'
import type { CustomTypesConfig, FieldDef, QueryResult } from 'pg'
import { pgScopeError } from '../errors.ts'
import type { WireValue } from '../postgres/messages.ts'
import type { StatementConfig } from '../../types/query.ts'
import { ObservedPromise } from '../observed-promise.ts'
import { Statement } from './statement.ts'
import type { StatementSignal } from './statement-signal.ts'

/** pg's own result builder: callers get the object that pg users know. */
interface ResultBuilder extends QueryResult {
  addFields (fields: FieldDef[]): void
  addCommandComplete (message: { text: string }): void
  addRow (row: unknown): void
  parseRow (fields: unknown[]): unknown
}
// Public in pg, whose types omit its methods.
const { Result } = pg as unknown as {
  Result: new (rowMode: string | undefined, types: CustomTypesConfig) => ResultBuilder
}

/** Tags of transaction control, which textKind() does not recognise after the first statement of a text. */
const controlTag = /^(?:BEGIN|START TRANSACTION|COMMIT|ROLLBACK|SAVEPOINT|RELEASE|PREPARE TRANSACTION)$/

const noop = (): void => {}

const rethrow = (error: unknown): never => { throw error }

/** A statement that a caller waits for. */
export class Call extends Statement {
  override readonly name: string | undefined
  override readonly several: boolean
  override readonly describes = true
  /** Resolves to a pg Result, or to an array of results if the text held several statements. */
  promise: Promise<QueryResult>
  /** How its rows are built. */
  readonly rowMode: 'array' | undefined
  readonly types: CustomTypesConfig | undefined
  #resolve!: (result: QueryResult | Promise<never>) => void
  #results: ResultBuilder[] = []
  #resultError: unknown = null
  #isSettled = false

  override get resultError (): unknown { return this.#resultError }
  override get rejection (): unknown { return this.refusal ?? (this.signal === null ? null : this.signal.error) }
  override get rowCount (): number { return this.#results.reduce((sum, { rowCount }) => sum + (rowCount ?? 0), 0) }

  constructor (
    text: string, values: WireValue[], config?: Pick<StatementConfig, 'name' | 'rowMode' | 'types'>, several = false
  ) {
    super(text, values, several)
    // '' names the unnamed statement, which every other Parse replaces: it must never be treated as a prepared one.
    this.name = config?.name || undefined
    this.several = several
    this.rowMode = config?.rowMode
    this.types = config?.types
    this.promise = new Promise<QueryResult>((resolve) => { this.#resolve = resolve })
  }

  /** Replaces its promise with one that records whether it is awaited. */
  observe (): ObservedPromise<QueryResult> {
    const promise = new ObservedPromise<QueryResult>((resolve) => { this.#resolve = resolve })
    this.promise = promise
    return promise
  }

  override fields (fields: FieldDef[], types: CustomTypesConfig): void {
    try {
      this.#result(types).addFields(fields)
    } catch (error) { // a user's getTypeParser
      this.#resultError = error ?? new Error('getTypeParser threw nothing')
    }
  }

  override row (fields: unknown[]): void {
    if (this.#resultError !== null) return
    const result = this.#results.at(-1)!
    try {
      result.addRow(result.parseRow(fields))
    } catch (error) { // a user's type parser
      this.#resultError = error ?? new Error('a type parser threw nothing')
    }
  }

  override discardResult (error: unknown): void {
    this.#resultError ??= error
  }

  override copyData (): void {
    this.discardResult(pgScopeError('FST_PG_SCOPE_QUERY_INVALID', 'A session cannot read COPY data: ' +
      'use app.db.lease(fn) with pg-copy-streams, or stream() for many rows.'))
  }

  override command (message: { text: string }, types: CustomTypesConfig): void {
    this.#result(types).addCommandComplete(message)
    if (this.several && controlTag.test(message.text)) this.endsTransaction = true
  }

  override restart (): void {
    this.#results = []
    this.#resultError = null
  }

  override succeed (): void {
    if (this.#resultError !== null) return this.fail(this.#resultError)
    this.#settle()
    // No result: the text held no command. One result of a text with several: the semicolon was part of a string.
    const [result = this.#result(pg.types), ...others] = this.#results
    if (this.trace !== null) this.trace.answered(this, this.#results.at(-1))
    this.#resolve((others.length > 0 ? this.#results : result) as QueryResult)
  }

  override fail (error: unknown, reported = true): void {
    // It was settled already if its signal was aborted while it waited.
    if (this.#isSettled) return
    this.#settle()
    if (this.trace !== null) this.trace.fail(error)
    this.#resolve(Promise.reject(error).catch(rethrow).catch((error: Error) => {
      // The error was created where the answer was read; its stack must lead to the caller that awaits the promise. V8
      // follows the chain of promises from a running handler to that await only after two hops, hence the additional
      // catch(rethrow).
      if (error instanceof pg.DatabaseError) this.traceToCaller(error)
      // A session remembers the failure and refuses to commit, so a promise that is not awaited is no unhandled
      // rejection.
      if (reported) this.promise.catch(noop)
      throw error
    }))
  }

  #settle (): void {
    this.#isSettled = true
    if (this.signal !== null) this.releaseSignal(this.signal)
  }

  protected releaseSignal (signal: StatementSignal): void {
    signal.release()
  }

  /** Makes the stack of an error lead to the code that awaits the promise. */
  protected traceToCaller (error: Error): void {
    Error.captureStackTrace(error)
  }

  /** The result being built. A text with several statements gets a new one after each command. */
  #result (types: CustomTypesConfig): ResultBuilder {
    const last = this.#results.at(-1)
    if (last !== undefined && (!this.several || last.command === null)) return last
    const next = new Result(this.rowMode, this.types ?? types)
    this.#results.push(next)
    return next
  }
}

/**
 * A call that was rejected before it was sent, for example for values of the wrong type. Its caller has the error
 * already. It waits in the queue like a statement and fails the transaction in its turn: earlier statements run, later
 * ones are rejected.
 */
export class InvalidCall extends Statement {
  constructor (error: unknown) {
    super('')
    this.refusal = error
  }
}
