// What the semantic conventions want of a statement's text: https://opentelemetry.io/docs/specs/semconv/database/

/** Quoted names, which are kept; then strings, and numbers that are not a part of a name. */
const literals = new RegExp([
  /("[^"]*")/,
  /\b[eE]'(?:[^'\\]|''|\\.)*'/,
  /(?:\b[xXbB])?'(?:[^']|'')*'/,
  /\$(?<tag>\w*)\$[\s\S]*?\$\k<tag>\$/,
  /(?<![\w$])\d+(?:\.\d+)?(?:[eE][+-]?\d+)?\b/
].map(({ source }) => source).join('|'), 'g')

/** A text without parameters may contain values, which are replaced; one with parameters is shown as it is. */
export function sanitized (text: string): string {
  return /\$\d/.test(text) ? text : text.replace(literals, (_literal, name: string | undefined) => name ?? '?')
}

const leading = /^(?:\s|--[^\n]*(?:\n|$)|\/\*[\s\S]*?\*\/)*/

/** The first word, such as `SELECT`. */
export function operationOf (text: string): string {
  return /^\w+/.exec(text.replace(leading, ''))?.[0].toUpperCase() ?? 'QUERY'
}

const name = '(?:"[^"]+"|[\\w.]+)+'
const targets: Record<string, RegExp> = {
  SELECT: new RegExp(`\\bfrom\\s+(?:only\\s+)?(${name})`, 'i'),
  DELETE: new RegExp(`\\bfrom\\s+(?:only\\s+)?(${name})`, 'i'),
  INSERT: new RegExp(`\\binto\\s+(${name})`, 'i'),
  UPDATE: new RegExp(`\\bupdate\\s+(?:only\\s+)?(${name})`, 'i'),
  MERGE: new RegExp(`\\binto\\s+(?:only\\s+)?(${name})`, 'i')
}

/** Of few values: operation and first table, such as `SELECT accounts`. */
export function summaryOf (text: string, operation: string): string {
  const target = targets[operation]?.exec(text.replace(leading, ''))?.[1]
  return target === undefined ? operation : `${operation} ${target}`.slice(0, 255)
}
