import type { WireValue } from '../postgres/messages.ts'
import type { InContext } from '../async-context.ts'
import { attribute } from '../statement-error.ts'
import type { StatementConfig } from '../../types/query.ts'
import { Call } from '../exchange/call.ts'
import type { StatementSignal } from '../exchange/statement-signal.ts'
import { type TracedOn, traceStatement } from '../exchange/statement-trace.ts'
import { statementChannel } from '../telemetry/channels.ts'

/** How the rows of a statement are built. */
export type RowFormat = Pick<StatementConfig, 'rowMode' | 'types'>

/** The user's SELECT and the call of stream(), to which errors of DECLARE and FETCH are attributed. */
export class CursorOrigin {
  readonly #prefix: string
  readonly #select: string
  readonly #format: RowFormat
  /** The signal of the whole stream. */
  readonly signal: StatementSignal | null
  /** The async context of the call; null if nobody needs it. */
  readonly #inContext: InContext | null
  /** Captured by V8, which formats it only when an error reads it. */
  readonly stack!: string

  /**
   * @param prefix the text of DECLARE in front of the user's SELECT
   * @param select the parsed SELECT; this call itself is never sent
   * @param constructor the stack begins with its caller
   */
  constructor (prefix: string, select: Call, constructor: Function) {
    this.#prefix = prefix
    this.#select = select.text
    this.#format = { rowMode: select.rowMode, types: select.types }
    this.signal = select.signal
    this.#inContext = statementChannel.context()
    Error.captureStackTrace(this, constructor)
  }

  declare (values: WireValue[]): Call {
    return this.#call(this.#prefix + this.#select, values, {})
  }

  /** FETCH, which returns the rows of the SELECT. */
  fetch (text: string): Call {
    return this.#call(text, [], this.#format)
  }

  /** Publishes that a statement of the cursor is called, as the SELECT that it belongs to. */
  trace (call: Call, kind: 'declare' | 'fetch', on: TracedOn): void {
    if (!statementChannel.hasSubscribers) return
    const { engine, session, label } = on
    const how = { engine, session, label, kind, mode: 'transaction' } as const
    call.trace = traceStatement(this.#select, undefined, how, this.#inContext)
  }

  #call (text: string, values: WireValue[], format: RowFormat): Call {
    const call = new CursorCall(this, text, values, format)
    call.signal = this.signal
    return call
  }

  /** PostgreSQL runs the SELECT when FETCH asks for rows, and counts `position` in the text of DECLARE. */
  attribute (error: unknown): void {
    attribute(error, this.#select, this.#prefix.length)
  }
}

/**
 * A DECLARE or FETCH. The caller awaits the stream and not this statement, so errors show the stack of the call of
 * stream().
 */
class CursorCall extends Call {
  readonly #origin: CursorOrigin

  constructor (origin: CursorOrigin, text: string, values: WireValue[], format: RowFormat) {
    super(text, values, format)
    this.#origin = origin
  }

  override attribute (error: unknown): void {
    this.#origin.attribute(error)
  }

  /** The signal belongs to the stream, which stops listening itself. */
  protected override releaseSignal (): void {}

  protected override traceToCaller (error: Error): void {
    const { stack } = this.#origin
    const frames = stack.indexOf('\n    at ')
    if (frames !== -1) error.stack = `${error.name}: ${error.message}${stack.slice(frames)}`
  }
}
