import type { CustomTypesConfig, FieldDef } from 'pg'
import type { PreparedStatement } from '../postgres/prepared-statements.ts'
import type { WireValue } from '../postgres/messages.ts'
import { attribute } from '../statement-error.ts'
import type { Traces } from '../pool/session-state-reset.ts'
import type { StatementSignal } from './statement-signal.ts'
import type { StatementTrace } from './statement-trace.ts'

/**
 * An internal statement: BEGIN, COMMIT, a setting. Only the tag of its answer matters. A caller's statement is a Call.
 *
 * A batch writes it and calls fields(), row() and command() as answers arrive. Then its owner calls succeed() or
 * fail().
 */
export class Statement {
  readonly text: string
  readonly values: WireValue[]
  /** The user's name for the prepared statement; usually undefined. */
  readonly name: string | undefined = undefined
  /** The text may hold several statements. */
  readonly several: boolean = false
  /** Uses the simple protocol: one message, and one answer less, but it cannot share a Sync. */
  readonly simple: boolean
  /** A caller reads its rows. */
  readonly describes: boolean = false
  /** It is prepared although the user gave it no name. */
  automatic = false
  /** It is parsed each time, even if it has a name or is used often. */
  unprepared = false
  /** The prepared statement that Bind named when it was last written, or null for the unnamed one. */
  prepared: PreparedStatement | null = null
  /**
   * The prepared statement of a failed attempt, which is sent again unprepared. If that succeeds, the prepared
   * statement is stale.
   */
  suspectPlan: PreparedStatement | null = null
  /** Once prepared it always has the same columns. */
  hasStablePlan = false
  /** It may change what the text of other statements means. */
  altersMeaning = false
  /** It contains COPY: the server discards what is sent after it. */
  isCopy = false
  /** The caller's signal, or null. */
  signal: StatementSignal | null = null
  /** Its tracing channel; null without subscribers, and for internal statements. */
  trace: StatementTrace | null = null
  /** It removes prepared statements from the connection. */
  deallocates = false
  /** It is sent before the settings if it is the first statement of the transaction. */
  goesFirst = false
  /** It may write rows, by its first word. */
  writes = false
  /** It may change whether the transaction is read-only or serializable. */
  changesMode = false
  /** It may have an effect on its transaction that is not a write: a setting or a NOTIFY. */
  hasOtherEffects = false
  /** The session state that it may leave on its connection, or null. */
  traces: Traces | null = null
  /** The user's text, if the rules of a pooler must be applied when it is sent; usually null behind a pooler. */
  uncheckedText: string | null = null
  /** Why it must not be sent although its turn has come, or null. */
  refusal: unknown = null
  /** It ended the transaction or began another, which only the session may do. */
  endsTransaction = false
  /** The tag of the last command as the server sent it: `COMMIT`, `ROLLBACK`, … */
  tag: string | null = null
  /**
   * Why the result cannot be used although the statement succeeded, for example because a type parser threw; null
   * otherwise.
   */
  get resultError (): unknown { return null }
  /** Rows that it returned or changed. */
  get rowCount (): number { return 0 }
  /** Why it must not be sent, or null: it was refused, or its signal is aborted. */
  get rejection (): unknown { return this.refusal }
  /** Nothing may be sent after it until it is answered. */
  get holdsPipeline (): boolean { return this.isCopy || this.signal !== null }

  constructor (text: string, values: WireValue[] = [], simple = false) {
    this.text = text
    this.values = values
    this.simple = simple
  }

  fields (_fields: FieldDef[], _types: CustomTypesConfig): void {}
  row (_fields: unknown[]): void {}
  /** Replaces the result by an error. */
  discardResult (_error: unknown): void {}
  copyData (): void {}

  command (message: { text: string }, _types: CustomTypesConfig): void {
    this.tag = message.text
  }

  /** Forgets an incomplete answer, so that the statement can be sent again. */
  restart (): void {
    this.tag = null
  }

  /** Adds the text of this statement, which failed, to the error. */
  attribute (error: unknown): void {
    attribute(error, this.text)
  }

  succeed (): void {}
  /**
   * @param reported the failure is reported in another way too, so it is no unhandled rejection if no caller awaits it
   */
  fail (_error: unknown, _reported = true): void {}
}
