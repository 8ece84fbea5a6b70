import { altersMeaning, hasStablePlan, mayAffectTransaction, setsForGood } from '../postgres/meaning.ts'
import type { Traces } from '../pool/session-state-reset.ts'
import { tracesOf } from './session-state-traces.ts'
import { goesFirst, mayChangeMode } from '../postgres/set-transaction.ts'
import { statementsOf } from '../postgres/statement-words.ts'
import { TextMemo } from '../postgres/text-memo.ts'

/** What a session knows about a statement from its text alone. */
export type TextKind = 'plain' | 'several' | 'transaction-control'

// Leading white space, comments and parentheses do not hide the first word.
const firstWord = /^(?:\s|--[^\n]*(?:\n|$)|\/\*(?:[^*]|\*(?!\/))*\*\/|\()*([a-z]+)(?:\s+([a-z]+))?/i
const control = new Set(['begin', 'start', 'commit', 'end', 'rollback', 'abort', 'savepoint', 'release'])

/**
 * `several`: the text contains a semicolon before its end, so it may hold several statements. A semicolon inside a
 * string counts too: such a statement is not sent in the first batch, which has no other effect.
 */
export function textKind (text: string): TextKind {
  if (isTransactionControl(text)) return 'transaction-control'
  const semicolon = text.indexOf(';')
  return semicolon !== -1 && text.slice(semicolon + 1).trim() !== '' ? 'several' : 'plain'
}

function isTransactionControl (text: string): boolean {
  // Fast path: nearly every statement begins with s(elect), i(nsert), u(pdate), d(elete) or w(ith).
  const first = text.charCodeAt(0) | 0x20
  if (first === 0x69 || first === 0x75 || first === 0x64 || first === 0x77) return false // i u d w
  if (first === 0x73 && (text.charCodeAt(1) | 0x20) === 0x65) return false // se…: SELECT, SET
  const words = firstWord.exec(text)
  if (words === null) return false
  const word = words[1]!.toLowerCase()
  return control.has(word) || (word === 'prepare' && words[2]?.toLowerCase() === 'transaction')
}

/** The text is a single COMMIT PREPARED or ROLLBACK PREPARED. */
function endsPrepared (text: string): boolean {
  const statements = statementsOf(text)
  return statements.length === 1 && /^(?:commit|rollback) prepared\b/i.test(statements[0]!)
}

/** A text is prepared after this many uses: a plan for a rarer text would only take memory on the server. */
const usesBeforePreparing = 5

/** The upper limit for a text whose plan has become stale again and again. */
const maxUsesBeforePreparing = 500

/** A text without these words neither copies nor deallocates, and is not split into statements. */
const rareWords = /\b(?:copy|deallocate|discard)\b/i
const reads = /^\s*(?:select|values|show|set|table|explain)\b/i
const copy = /^copy\b/i
const deallocate = /^(?:deallocate|discard all)\b/i
const none: readonly string[] = []

/** The properties of a text, computed once and remembered. */
export class KnownText {
  readonly kind: TextKind
  /** It may change what other statements mean. */
  readonly altersMeaning: boolean
  /** It contains COPY. Until a COPY has finished, the server closes a connection that sends other statements. */
  readonly isCopy: boolean
  /**
   * It ends another transaction, which PREPARE TRANSACTION left, and must run outside a transaction
   * (https://www.postgresql.org/docs/current/sql-commit-prepared.html).
   */
  readonly endsPrepared: boolean
  /** It removes prepared statements from the connection. */
  readonly deallocates: boolean
  /** It is SET TRANSACTION, which must precede every query of the transaction. */
  readonly goesFirst: boolean
  /** It may change whether the transaction is read-only or serializable. */
  readonly changesMode: boolean
  /** It may have an effect on its transaction that is not a write: a setting or a NOTIFY. */
  readonly hasOtherEffects: boolean
  /** It does not begin like a statement that only reads, which may write all the same, by a function. */
  readonly writes: boolean
  /** The session state that it may leave on its connection, or null. */
  readonly traces: Traces | null
  uses = 0
  /** How many uses are needed before it is prepared. */
  usesBeforePreparing = usesBeforePreparing
  readonly #text: string
  #hasStablePlan: boolean | undefined

  constructor (text: string) {
    this.#text = text
    this.goesFirst = goesFirst(text)
    this.writes = !reads.test(text)
    this.changesMode = mayChangeMode(text)
    this.kind = this.goesFirst ? 'plain' : textKind(text)
    this.endsPrepared = this.kind === 'transaction-control' && endsPrepared(text)
    this.altersMeaning = altersMeaning(text)
    this.hasOtherEffects = mayAffectTransaction(text)
    this.traces = tracesOf(text)
    const statements = rareWords.test(text) ? statementsOf(text) : none
    this.isCopy = statements.some((statement) => copy.test(statement))
    this.deallocates = statements.some((statement) => deallocate.test(statement)) ||
      (this.altersMeaning && setsForGood(text))
  }

  /** It reads or writes rows and always has the same meaning. Expensive: the text is parsed. */
  get hasStablePlan (): boolean {
    this.#hasStablePlan ??= hasStablePlan(this.#text)
    return this.#hasStablePlan
  }
}

const known = new TextMemo((text) => new KnownText(text))

export function knownText (text: string): KnownText {
  return known.of(text)
}

/**
 * The prepared plan of a text became stale. Each time may fail a request, so the text is prepared again only after more
 * uses.
 */
export function becameStale (text: string): void {
  const entry = knownText(text)
  entry.uses = 0
  entry.usesBeforePreparing = Math.min(entry.usesBeforePreparing * 10, maxUsesBeforePreparing)
}
