import type { WireValue } from '../postgres/messages.ts'
import { attribute } from '../postgres/statement-error.ts'
import { Call } from './statement.ts'

/** Where a cursor comes from: the user's SELECT, and the call of stream(). Errors of DECLARE and FETCH lead to it. */
export class CursorOrigin {
  readonly #ahead: string
  readonly #select: string
  /** Captured by V8, and made into text only when an error asks for it. */
  readonly stack!: string

  /**
   * @param ahead what stands in front of the user's SELECT
   * @param constructor the stack begins with its caller
   */
  constructor (ahead: string, select: string, constructor: Function) {
    this.#ahead = ahead
    this.#select = select
    Error.captureStackTrace(this, constructor)
  }

  declare (values: WireValue[]): Call {
    return new CursorCall(this, this.#ahead + this.#select, values)
  }

  call (text: string): Call {
    return new CursorCall(this, text, [])
  }

  /** PostgreSQL runs the SELECT as FETCH asks for rows, and counts `position` in the text of DECLARE. */
  blame (error: unknown): void {
    attribute(error, this.#select, this.#ahead.length)
  }
}

/** A statement on a cursor: nobody awaits it by itself, so that its errors lead to the call of stream(). */
class CursorCall extends Call {
  readonly #origin: CursorOrigin

  constructor (origin: CursorOrigin, text: string, values: WireValue[]) {
    super(text, values)
    this.#origin = origin
  }

  override blame (error: unknown): void {
    this.#origin.blame(error)
  }

  protected override trace (error: Error): void {
    const { stack } = this.#origin
    const frames = stack.indexOf('\n    at ')
    if (frames !== -1) error.stack = `${error.name}: ${error.message}${stack.slice(frames)}`
  }
}
