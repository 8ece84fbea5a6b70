import type { WireValue } from '../postgres/messages.ts'
import { attribute } from '../statement-error.ts'
import type { StatementConfig } from '../../types/query.ts'
import { Call } from '../exchange/statement.ts'
import type { StatementSignal } from '../exchange/statement-signal.ts'

/** How the rows of a statement are built. */
export type RowFormat = Pick<StatementConfig, 'rowMode' | 'types'>

/** Where a cursor comes from: the user's SELECT, and the call of stream(). Errors of DECLARE and FETCH lead to it. */
export class CursorOrigin {
  readonly #ahead: string
  readonly #select: string
  readonly #format: RowFormat
  /** Of the whole stream. */
  readonly signal: StatementSignal | null
  /** Captured by V8, and made into text only when an error asks for it. */
  readonly stack!: string

  /**
   * @param ahead what stands in front of the user's SELECT
   * @param select the call that it was read into, which is never sent
   * @param constructor the stack begins with its caller
   */
  constructor (ahead: string, select: Call, constructor: Function) {
    this.#ahead = ahead
    this.#select = select.text
    this.#format = { rowMode: select.rowMode, types: select.types }
    this.signal = select.signal
    Error.captureStackTrace(this, constructor)
  }

  declare (values: WireValue[]): Call {
    return this.#call(this.#ahead + this.#select, values, {})
  }

  /** FETCH, whose rows are those of the SELECT. */
  call (text: string): Call {
    return this.#call(text, [], this.#format)
  }

  #call (text: string, values: WireValue[], format: RowFormat): Call {
    const call = new CursorCall(this, text, values, format)
    call.signal = this.signal
    return call
  }

  /** PostgreSQL runs the SELECT as FETCH asks for rows, and counts `position` in the text of DECLARE. */
  blame (error: unknown): void {
    attribute(error, this.#select, this.#ahead.length)
  }
}

/** A statement on a cursor: nobody awaits it by itself, so that its errors lead to the call of stream(). */
class CursorCall extends Call {
  readonly #origin: CursorOrigin

  constructor (origin: CursorOrigin, text: string, values: WireValue[], format: RowFormat) {
    super(text, values, format)
    this.#origin = origin
  }

  override blame (error: unknown): void {
    this.#origin.blame(error)
  }

  /** The signal is the stream's. */
  protected override answered (): void {}

  protected override trace (error: Error): void {
    const { stack } = this.#origin
    const frames = stack.indexOf('\n    at ')
    if (frames !== -1) error.stack = `${error.name}: ${error.message}${stack.slice(frames)}`
  }
}
