import { statementsOf } from './statement-words.ts'
import { TextMemo } from './text-memo.ts'

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

/** One of these stands in every text that copies or forgets; most have none, and need not be taken apart. */
const seldom = /\b(?:copy|deallocate|discard)\b/i
const copy = /^copy\b/i
const forget = /^(?:deallocate|discard all)\b/i
const none: readonly string[] = []

/** What is remembered of a text. */
export class KnownText {
  readonly kind: TextKind
  /** It sets something on which the meaning of other statements depends. */
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
  /** How often it was used. */
  uses = 0
  /** How often it has to be used before it is worth to be prepared. */
  often = often
  readonly #text: string
  #lasting: boolean | undefined

  constructor (text: string) {
    this.#text = text
    this.kind = textKind(text)
    this.endsPrepared = this.kind === 'transaction-control' && endsPrepared(text)
    this.altersMeaning = altersMeaning(text)
    const statements = seldom.test(text) ? statementsOf(text) : none
    this.copies = statements.some((statement) => copy.test(statement))
    this.forgets = statements.some((statement) => forget.test(statement))
  }

  /** Reads or writes rows, and means the same each time. The text is taken apart for it, so ask only where it is to be prepared. */
  get lasting (): boolean {
    this.#lasting ??= isLasting(this.#text)
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
  entry.often *= 10
}

/** The server looks at names, and at literals of some types, when it parses: with another one of these they would mean something else. */
const settingsOfMeaning = /search_path|time\s*zone|datestyle|intervalstyle|standard_conforming_strings|array_nulls|xmloption|lc_monetary/i

function altersMeaning (text: string): boolean {
  return settingsOfMeaning.test(text) && (/set_config/i.test(text) || statementsOf(text).some((statement) => /^(?:re)?set\b/i.test(statement)))
}

/** Of others the columns may change from one time to the next: FETCH, EXECUTE, SHOW, CALL. */
const rowWords = /^(?:select|insert|update|delete|merge|with|values|table)\b/i

/** Literals that become a moment when they are parsed (https://www.postgresql.org/docs/current/datatype-datetime.html#DATATYPE-DATETIME-SPECIAL-VALUES). */
const moments = /'\s*(?:now|today|tomorrow|yesterday)\b/i

function isLasting (text: string): boolean {
  return rowWords.test(statementsOf(text)[0] ?? '') && !moments.test(text)
}

/** Those of a transaction that change nothing of what a text means. Names with a dot are the application's own. */
const harmless = new Set(['role', 'application_name', 'statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout', 'transaction_read_only', 'synchronous_commit', 'work_mem'])

/** Whether texts mean something else, or may, with these settings. */
export function alterMeaning (settings: Readonly<Record<string, string>>): boolean {
  for (const name in settings) if (!name.includes('.') && !harmless.has(name.toLowerCase())) return true
  return false
}
