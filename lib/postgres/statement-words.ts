/**
 * A semicolon, or where something begins that may hold any words: a comment, a string, a quoted name
 * (https://www.postgresql.org/docs/current/sql-syntax-lexical.html).
 */
const mark = /;|--|\/\*|(?<![\w$\x80-\uffff])e'|'|"|(?<![\w$\x80-\uffff])\$(?:[a-z_\x80-\uffff][\w\x80-\uffff]*)?\$/gi

const plainName = /^"[a-z_]\w*"$/
/** What PostgreSQL takes for false where a boolean is wanted. */
const falsehood = /^'\s*(?:f|fa|fal|fals|false|no?|off?|0)\s*'$/i
const doBlock = /^[\s(]*do\b/i

/**
 * The statements of a text in one line each, without comments, strings and leading parentheses, so that their words
 * can be looked at. What was a string is `''`, or `false` if it says that; a quoted name that is no plain word is
 * `""`.
 */
export function statementsOf (text: string): string[] {
  const statements: string[] = []
  let words = ''
  let from = 0
  /** What the first string of a statement is. */
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
      // The code of a DO block runs here and now.
      if (first === 'code') words += ` ${statementsOf(text.slice(index + opening.length, from - opening.length)).join(' ')} `
      else words += falsehood.test(text.slice(index, from)) ? 'false' : "''"
    } else if (opening === '"') words += plainName.test(text.slice(index, from)) ? text.slice(index, from) : '""'
    else words += ' '
  }
  words += text.slice(from)
  end()
  return statements
}

/**
 * The string literals of a text as they are written: in quotes, with an `E` in front, or between dollars. Those with
 * `U&` say so by a backslash.
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

/** Where it is over; the text's end, where it never is. */
function endOf (text: string, opening: string, from: number): number {
  if (opening === ';') return from
  if (opening === '/*') return endOfComment(text, from)
  if (opening === 'e\'' || opening === 'E\'') return endOfEscaped(text, from)
  // Two quotes in a row, which stand for one, are taken for the end of one string and the beginning of another.
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
