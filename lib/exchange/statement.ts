import pg from 'pg'
import type { CustomTypesConfig, FieldDef, QueryResult } from 'pg'
import { pgScopeError } from '../errors.ts'
import type { PreparedStatement } from '../postgres/prepared-statements.ts'
import type { WireValue } from '../postgres/messages.ts'
import { attribute } from '../statement-error.ts'
import type { Traces } from '../pool/session-state-reset.ts'
import { knownText } from './statement-text.ts'
import type { StatementConfig } from '../../types/query.ts'
import { invalidQuery } from './invalid-query.ts'
import { ObservedPromise } from './observed-promise.ts'
import { checkTextSize, parametersOf } from './parameters.ts'
import { readConfig } from './statement-config.ts'
import { readSignal, type StatementSignal } from './statement-signal.ts'

/** pg's own result builder, so that a result is the object that pg users know. */
interface ResultBuilder extends QueryResult {
  addFields (fields: FieldDef[]): void
  addCommandComplete (message: { text: string }): void
  addRow (row: unknown): void
  parseRow (fields: unknown[]): unknown
}
// It is public in pg, whose types leave out its methods.
const { Result } = pg as unknown as { Result: new (rowMode: string | undefined, types: CustomTypesConfig) => ResultBuilder }

/** Tags of the statements that textKind() refuses where it sees them. */
const controlTag = /^(?:BEGIN|START TRANSACTION|COMMIT|ROLLBACK|SAVEPOINT|RELEASE|PREPARE TRANSACTION)$/

const noop = (): void => {}

/** What the session says to the server for itself: BEGIN, COMMIT, a setting. Only the tag of the answer matters. */
export class Statement {
  readonly text: string
  readonly values: WireValue[]
  /** The name that it is prepared under; undefined for most. */
  readonly name: string | undefined = undefined
  /** Its text may hold several. */
  readonly several: boolean = false
  /** Goes by the simple protocol, which shares a Sync with nothing else: one message, and one less to be answered. */
  readonly simple: boolean
  /** Whether anybody reads its rows. */
  readonly describes: boolean = false
  /** Worth to be prepared without a name of the user's. */
  automatic = false
  /** It is parsed each time, whatever its name and however often it is used. */
  unprepared = false
  /** What it was bound to when it was last written; null for the unnamed statement. */
  prepared: PreparedStatement | null = null
  /** What failed, perhaps only for being prepared, so that it is sent again unprepared: if that succeeds, this is outdated. */
  doubted: PreparedStatement | null = null
  /** Once prepared it has the same columns each time. */
  hasStablePlan = false
  /** It may change what other statements mean. */
  altersMeaning = false
  /** Its protocol is COPY: what is sent behind it is lost. */
  isCopy = false
  /** Its caller's, or null. */
  signal: StatementSignal | null = null
  /** What was prepared before it is not there behind it. */
  deallocates = false
  /** It is sent ahead of ours where it is called first. */
  goesFirst = false
  /** Its transaction may be read-only, or serializable, no more or only behind it. */
  changesMode = false
  /** What it may leave behind on its connection, or null. */
  traces: Traces | null = null
  /** It ended the transaction, or began another, although that is the session's to do. */
  endsTransaction = false
  /** The tag of the last command, as the server sent it: `COMMIT`, `ROLLBACK`, … */
  tag: string | null = null
  /** The answer is useless although the server gave it: a type parser threw. `null` for a usable one. */
  get spoiled (): unknown { return null }
  /** Why it is never sent, or null: see InvalidCall. */
  get invalid (): unknown { return null }
  /** While it runs nothing may be sent behind it. */
  get holdsPipeline (): boolean { return this.isCopy || this.signal !== null }

  constructor (text: string, values: WireValue[] = [], simple = false) {
    this.text = text
    this.values = values
    this.simple = simple
  }

  fields (_fields: FieldDef[], _types: CustomTypesConfig): void {}
  row (_fields: unknown[]): void {}
  /** One of its rows cannot be read. */
  spoil (_error: unknown): void {}
  copyData (): void {}

  command (message: { text: string }, _types: CustomTypesConfig): void {
    this.tag = message.text
  }

  /** Forgets an answer that broke off, so that the statement can be sent again. */
  restart (): void {
    this.tag = null
  }

  /** It is the one that failed: the error is to say so. */
  blame (error: unknown): void {
    attribute(error, this.text)
  }

  succeed (): void {}
  /** @param told whether it is told in another way too, so that it is no unhandled rejection if nobody awaits it */
  fail (_error: unknown, _told = true): void {}
}

/**
 * A call that was rejected before anything was sent: values of the wrong type, say. Its caller already knows the error. It waits in
 * the queue like a statement and fails the transaction in its turn: statements called before it run, those behind it are refused.
 */
export class InvalidCall extends Statement {
  readonly #error: unknown

  constructor (error: unknown) {
    super('')
    this.#error = error
  }

  override get invalid (): unknown { return this.#error }
}

const rethrow = (error: unknown): never => { throw error }

/** A statement that a caller waits for. */
export class Call extends Statement {
  override readonly name: string | undefined
  override readonly several: boolean
  override readonly describes = true
  /** Fulfilled with a pg Result, or with an array of them where the text held several statements. */
  promise: Promise<QueryResult>
  /** How its rows are built. */
  readonly rowMode: 'array' | undefined
  readonly types: CustomTypesConfig | undefined
  #resolve!: (result: QueryResult | Promise<never>) => void
  #results: ResultBuilder[] = []
  /** Why its rows are of no use although the server answered, or null. */
  #spoiled: unknown = null
  #isSettled = false

  override get spoiled (): unknown { return this.#spoiled }
  override get invalid (): unknown { return this.signal === null ? null : this.signal.error }

  constructor (text: string, values: WireValue[], config?: Pick<StatementConfig, 'name' | 'rowMode' | 'types'>, several = false) {
    super(text, values, several)
    // An empty name is the unnamed statement's own, which every other Parse replaces: it must never pass for a prepared one.
    this.name = config?.name || undefined
    this.several = several
    this.rowMode = config?.rowMode
    this.types = config?.types
    this.promise = new Promise<QueryResult>((resolve) => { this.#resolve = resolve })
  }

  /** Its promise, from here on one that knows whether it is awaited. */
  observe (): ObservedPromise<QueryResult> {
    const promise = new ObservedPromise<QueryResult>((resolve) => { this.#resolve = resolve })
    this.promise = promise
    return promise
  }

  override fields (fields: FieldDef[], types: CustomTypesConfig): void {
    try {
      this.#result(types).addFields(fields)
    } catch (error) { // a getTypeParser of the user's
      this.#spoiled = error ?? new Error('getTypeParser threw nothing')
    }
  }

  override row (fields: unknown[]): void {
    if (this.#spoiled !== null) return
    const result = this.#results.at(-1)!
    try {
      result.addRow(result.parseRow(fields))
    } catch (error) { // a type parser of the user's
      this.#spoiled = error ?? new Error('a type parser threw nothing')
    }
  }

  override spoil (error: unknown): void {
    this.#spoiled ??= error
  }

  override copyData (): void {
    this.spoil(pgScopeError('FST_PG_SCOPE_QUERY_INVALID', 'A session cannot read COPY data: use app.db.lease(fn) with pg-copy-streams, or stream() for many rows.'))
  }

  override command (message: { text: string }, types: CustomTypesConfig): void {
    this.#result(types).addCommandComplete(message)
    if (this.several && controlTag.test(message.text)) this.endsTransaction = true
  }

  override restart (): void {
    this.#results = []
    this.#spoiled = null
  }

  override succeed (): void {
    if (this.#spoiled !== null) return this.fail(this.#spoiled)
    this.#settle()
    // Without any there was no command in the text. A text taken for several may turn out to be one, with a semicolon in a string.
    const [result = this.#result(pg.types), ...others] = this.#results
    this.#resolve((others.length > 0 ? this.#results : result) as QueryResult)
  }

  override fail (error: unknown, told = true): void {
    // Its signal was aborted while it waited: the caller knows, and what it waited for tells again.
    if (this.#isSettled) return
    this.#settle()
    this.#resolve(Promise.reject(error).catch(rethrow).catch((error: Error) => {
      // The error was made where the answer was read; this leads its stack back to the caller who awaits. V8 follows a promise
      // that one await stands on, so the handler below comes only now, and a hop later, when the caller's promise follows this one.
      if (error instanceof pg.DatabaseError) this.trace(error)
      // A session remembers the failure and refuses to commit, so one that nobody awaits is no unhandled rejection.
      if (told) this.promise.catch(noop)
      throw error
    }))
  }

  #settle (): void {
    this.#isSettled = true
    if (this.signal !== null) this.answered(this.signal)
  }

  /** The signal has nothing more to stop. */
  protected answered (signal: StatementSignal): void {
    signal.forget()
  }

  /** Leads the stack of an error to the caller: the code that awaits the promise that is being rejected. */
  protected trace (error: Error): void {
    Error.captureStackTrace(error)
  }

  /** The result being built: a new one after each command, for a text with several statements. */
  #result (types: CustomTypesConfig): ResultBuilder {
    const last = this.#results.at(-1)
    if (last !== undefined && (!this.several || last.command === null)) return last
    const next = new Result(this.rowMode, this.types ?? types)
    this.#results.push(next)
    return next
  }
}

/**
 * Reads what a user handed to query().
 *
 * @param alone it is sent by itself, outside of a transaction
 * @throws FST_PG_SCOPE_QUERY_INVALID, FST_PG_SCOPE_TRANSACTION_CONTROL
 */
export function readStatement (textOrConfig: unknown, values?: unknown, alone = false): Call {
  const config = typeof textOrConfig === 'object' && textOrConfig !== null ? readConfig(textOrConfig) : undefined
  const text = config === undefined ? textOrConfig : config.text
  const given = values ?? config?.values ?? []
  if (typeof text !== 'string') throw invalidQuery(`the text must be a string, and ${kindOf(text)} came`)
  checkTextSize(text)
  if (text.includes('\0')) throw invalidQuery('the text holds a zero byte, which PostgreSQL cannot take')
  if (typeof given === 'function') throw invalidQuery('callbacks are not called: await the promise')
  if (!Array.isArray(given)) throw invalidQuery(`the values must be an array, and ${kindOf(given)} came`)
  if (config?.name !== undefined && (typeof config.name !== 'string' || Buffer.byteLength(config.name) > 63 || config.name.includes('\0'))) {
    throw invalidQuery('the name of a prepared statement must be a string of at most 63 bytes, none of them zero')
  }
  if (config?.rowMode !== undefined && config.rowMode !== 'array') throw invalidQuery('`rowMode` must be \'array\' or left out')
  if (config?.prepare !== undefined && typeof config.prepare !== 'boolean') {
    throw invalidQuery(`\`prepare\` must be a boolean, got ${kindOf(config.prepare)}`)
  }
  if (config?.prepare === false && config.name) throw invalidQuery('`name` prepares the statement, and `prepare: false` forbids it: leave one of them out')
  const signal = readSignal(config?.signal)
  const known = knownText(text)
  const { kind } = known
  if (kind === 'transaction-control' && !(known.endsPrepared && alone)) {
    throw pgScopeError('FST_PG_SCOPE_TRANSACTION_CONTROL', known.endsPrepared
      ? 'COMMIT PREPARED and ROLLBACK PREPARED cannot run in a transaction. Use app.db.query(), which sends the statement by itself.'
      : `${text.trim().split(/\s/, 1)[0]!.slice(0, 20).toUpperCase()} is the session's to send. Use commit() and rollback(), and transaction(fn) for a savepoint.`)
  }
  const call = new Call(text, parametersOf(given), config, kind === 'several' && given.length === 0 && !config?.name)
  call.automatic = known.uses >= known.often && known.lasting
  call.hasStablePlan = call.automatic || (call.name !== undefined && known.lasting)
  call.unprepared = config?.prepare === false
  call.altersMeaning = known.altersMeaning
  call.isCopy = known.copies
  call.signal = signal
  call.deallocates = known.forgets
  call.goesFirst = known.goesFirst
  call.changesMode = known.changesMode
  call.traces = known.traces
  known.uses++
  return call
}

function kindOf (value: unknown): string {
  return value === null ? 'null' : Array.isArray(value) ? 'an array' : typeof value
}
