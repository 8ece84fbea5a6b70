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

/** What is remembered of a text. */
export interface KnownText {
  readonly kind: TextKind
  /** It names search_path, so that it may change what other statements mean by a name. */
  readonly movesPath: boolean
  /** How often it was used. */
  uses: number
  /** How often it has to be used before it is worth to be prepared. */
  often: number
}

/** Of a text that is used no more than this the server would keep a plan for nothing. */
const often = 5

/** Applications send the same few texts over and over. Bounded, for texts that are built anew each time. */
const known = new Map<string, KnownText>()
const mostKnown = 2000

export function knownText (text: string): KnownText {
  let entry = known.get(text)
  if (entry === undefined) {
    entry = { kind: textKind(text), movesPath: /search_path/i.test(text), uses: 0, often }
    if (known.size >= mostKnown) known.clear()
    known.set(text, entry)
  }
  return entry
}

/** Its prepared plan did not fit any more. Where that happens again and again, each time may cost a request: it has to earn its place anew. */
export function becameStale (text: string): void {
  const entry = knownText(text)
  entry.uses = 0
  entry.often *= 10
}
