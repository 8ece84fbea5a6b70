/**
 * A semicolon, or the beginning of something that may contain any words: a comment, a string, a quoted name
 * (https://www.postgresql.org/docs/current/sql-syntax-lexical.html).
 */
const mark = /;|--|\/\*|(?<![\w$\x80-\uffff])e'|'|"|(?<![\w$\x80-\uffff])\$(?:[a-z_\x80-\uffff][\w\x80-\uffff]*)?\$/gi

const plainName = /^"[a-z_]\w*"$/
/** What PostgreSQL reads as false where it expects a boolean. */
const falsehood = /^'\s*(?:f|fa|fal|fals|false|no?|off?|0)\s*'$/i
const doBlock = /^[\s(]*do\b/i

/**
 * Splits a text into statements of one line each, without comments, strings and leading parentheses, so that their
 * words can be matched. A string becomes `''`, or `false` if that is its content. A quoted name that is not a plain
 * word becomes `""`.
 */
export function statementsOf (text: string): string[] {
  const statements: string[] = []
  let words = ''
  let from = 0
  /** What the first string of the statement contains. */
  let first: 'unknown' | 'string' | 'code' = 'unknown'
  const end = (): void => {
    const statement = words.replace(/^[\s(]+/, '').replace(/\s+/g, ' ')
    if (statement !== '') statements.push(statement)
    words = ''
    first = 'unknown'
  }
  for (let at = nextMark(text, 0); at !== null; at = nextMark(text, from)) {
    const { 0: opening, index } = at
    words += text.slice(from, index)
    from = endOf(text, opening, index + opening.length)
    if (opening === ';') end()
    else if (isString(opening)) {
      if (first === 'unknown') first = doBlock.test(words) ? 'code' : 'string'
      // The code of a DO block runs as part of the statement.
      if (first === 'code') {
        const code = text.slice(index + opening.length, from - opening.length)
        words += ` ${statementsOf(code).join(' ')} `
      } else words += falsehood.test(text.slice(index, from)) ? 'false' : "''"
    } else if (opening === '"') words += plainName.test(text.slice(index, from)) ? text.slice(index, from) : '""'
    else words += ' '
  }
  words += text.slice(from)
  end()
  return statements
}

/** Splits a text into its statements as they are written. The body of BEGIN ATOMIC belongs to its statement. */
export function splitStatements (text: string): string[] {
  const parts: string[] = []
  let start = 0
  const end = (at: number): void => {
    const part = text.slice(start, at)
    const words = statementsOf(part)[0]
    const isInBody = words !== undefined && (/\bbegin atomic\b/i).test(words) && !/^end$/i.test(lastOf(part))
    if (isInBody && at < text.length) return
    if (words !== undefined) parts.push(part)
    start = at + 1
  }
  let from = 0
  for (let at = nextMark(text, 0); at !== null; at = nextMark(text, from)) {
    from = endOf(text, at[0], at.index + at[0].length)
    if (at[0] === ';') end(at.index)
  }
  end(text.length)
  return parts
}

function lastOf (text: string): string {
  return statementsOf(text).at(-1) ?? ''
}

/**
 * The string literals of a text as they are written: in quotes, with a leading `E`, or between dollars. A literal with
 * `U&` gets a backslash at its end.
 */
export function literalsOf (text: string): string[] {
  const literals: string[] = []
  let from = 0
  for (let at = nextMark(text, 0); at !== null; at = nextMark(text, from)) {
    const { 0: opening, index } = at
    from = endOf(text, opening, index + opening.length)
    if (isString(opening)) {
      literals.push(/u&$/i.test(text.slice(0, index)) ? `${text.slice(index, from)}\\` : text.slice(index, from))
    }
  }
  return literals
}

function nextMark (text: string, from: number): RegExpExecArray | null {
  mark.lastIndex = from
  return mark.exec(text)
}

function isString (opening: string): boolean {
  return opening.endsWith("'") || opening.startsWith('$')
}

/** The index after its end; the end of the text if it has none. */
function endOf (text: string, opening: string, from: number): number {
  if (opening === ';') return from
  if (opening === '/*') return endOfComment(text, from)
  if (opening === 'e\'' || opening === 'E\'') return endOfEscaped(text, from)
  // Two quotes in a row, an escaped quote, are read as the end of one string and the beginning of the next.
  const close = opening === '--' ? '\n' : opening
  const end = text.indexOf(close, from)
  return end === -1 ? text.length : end + close.length
}

/** Comments nest. */
function endOfComment (text: string, from: number): number {
  const marks = /\/\*|\*\//g
  marks.lastIndex = from
  for (let depth = 1; depth > 0;) {
    const found = marks.exec(text)
    if (found === null) return text.length
    depth += found[0] === '/*' ? 1 : -1
  }
  return marks.lastIndex
}

function endOfEscaped (text: string, from: number): number {
  const marks = /['\\]/g
  marks.lastIndex = from
  for (let found = marks.exec(text); found !== null; found = marks.exec(text)) {
    const next = text[marks.lastIndex]
    if (found[0] === '\\' || next === '\'') marks.lastIndex++
    else return marks.lastIndex
  }
  return text.length
}
