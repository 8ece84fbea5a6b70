import { altersMeaning, hasStablePlan, setsForGood } from '../postgres/meaning.ts'
import type { Traces } from '../pool/session-state-reset.ts'
import { tracesOf } from './session-state-traces.ts'
import { goesFirst, mayChangeMode } from '../postgres/set-transaction.ts'
import { statementsOf } from '../postgres/statement-words.ts'
import { TextMemo } from '../postgres/text-memo.ts'

/** What a session must know of a statement before it sends it, told by its text alone. */
export type TextKind = 'plain' | 'several' | 'transaction-control'

// Leading white space, comments and parentheses do not hide the first word.
const firstWord = /^(?:\s|--[^\n]*(?:\n|$)|\/\*(?:[^*]|\*(?!\/))*\*\/|\()*([a-z]+)(?:\s+([a-z]+))?/i
const control = new Set(['begin', 'start', 'commit', 'end', 'rollback', 'abort', 'savepoint', 'release'])

/**
 * `several`: a semicolon stands before the end, so that the text may hold several statements; a semicolon inside a string is
 * taken for one too, which costs such a statement its place in the first batch and nothing else.
 */
export function textKind (text: string): TextKind {
  if (isTransactionControl(text)) return 'transaction-control'
  const semicolon = text.indexOf(';')
  return semicolon !== -1 && text.slice(semicolon + 1).trim() !== '' ? 'several' : 'plain'
}

function isTransactionControl (text: string): boolean {
  // Nearly every statement begins with one of s(elect), i(nsert), u(pdate), d(elete), w(ith): no regular expression for most of these.
  const first = text.charCodeAt(0) | 0x20
  if (first === 0x69 || first === 0x75 || first === 0x64 || first === 0x77) return false // i u d w
  if (first === 0x73 && (text.charCodeAt(1) | 0x20) === 0x65) return false // se…: SELECT, SET
  const words = firstWord.exec(text)
  if (words === null) return false
  const word = words[1]!.toLowerCase()
  return control.has(word) || (word === 'prepare' && words[2]?.toLowerCase() === 'transaction')
}

/** By itself, COMMIT PREPARED or ROLLBACK PREPARED. */
function endsPrepared (text: string): boolean {
  const statements = statementsOf(text)
  return statements.length === 1 && /^(?:commit|rollback) prepared\b/i.test(statements[0]!)
}

/** Of a text that is used no more than this the server would keep a plan for nothing. */
const often = 5

/** However often its plan became stale, a text that is used more often than this is prepared again. */
const oftenAtMost = 500

/** One of these stands in every text that copies or forgets; most have none, and need not be taken apart. */
const seldom = /\b(?:copy|deallocate|discard)\b/i
const copy = /^copy\b/i
const forget = /^(?:deallocate|discard all)\b/i
const none: readonly string[] = []

/** What is remembered of a text. */
export class KnownText {
  readonly kind: TextKind
  /** It may change what other statements mean. */
  readonly altersMeaning: boolean
  /** It may ask the client for data, or send it some: until that is over the server takes nothing else, and ends a connection that sends it. */
  readonly copies: boolean
  /**
   * Transaction control that ends another transaction, which PREPARE TRANSACTION has left behind, and runs in none
   * (https://www.postgresql.org/docs/current/sql-commit-prepared.html).
   */
  readonly endsPrepared: boolean
  /** It takes prepared statements away. */
  readonly forgets: boolean
  /** SET TRANSACTION, which must stand ahead of every query of its transaction. */
  readonly goesFirst: boolean
  /** Its transaction may be read-only, or serializable, no more or only behind it. */
  readonly changesMode: boolean
  /** What it may leave behind on its connection, or null. */
  readonly traces: Traces | null
  /** How often it was used. */
  uses = 0
  /** How often it has to be used before it is worth to be prepared. */
  often = often
  readonly #text: string
  #lasting: boolean | undefined

  constructor (text: string) {
    this.#text = text
    this.goesFirst = goesFirst(text)
    this.changesMode = mayChangeMode(text)
    this.kind = this.goesFirst ? 'plain' : textKind(text)
    this.endsPrepared = this.kind === 'transaction-control' && endsPrepared(text)
    this.altersMeaning = altersMeaning(text)
    this.traces = tracesOf(text)
    const statements = seldom.test(text) ? statementsOf(text) : none
    this.copies = statements.some((statement) => copy.test(statement))
    this.forgets = statements.some((statement) => forget.test(statement)) || (this.altersMeaning && setsForGood(text))
  }

  /** Reads or writes rows, and means the same each time. The text is taken apart for it, so ask only where it is to be prepared. */
  get lasting (): boolean {
    this.#lasting ??= hasStablePlan(this.#text)
    return this.#lasting
  }
}

const known = new TextMemo((text) => new KnownText(text))

export function knownText (text: string): KnownText {
  return known.of(text)
}

/** Its prepared plan did not fit any more. Where that happens again and again, each time may cost a request: it has to earn its place anew. */
export function becameStale (text: string): void {
  const entry = knownText(text)
  entry.uses = 0
  entry.often = Math.min(entry.often * 10, oftenAtMost)
}
