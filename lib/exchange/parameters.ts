import { isAnyArrayBuffer } from 'node:util/types'
import pg from 'pg'
import { longestMessage, type WireValue } from '../postgres/messages.ts'
import { invalidQuery } from './invalid-query.ts'

// It is public in pg, and missing in its types.
const { prepareValue } = (pg as unknown as { utils: { prepareValue (value: unknown): WireValue } }).utils

/** Their number has two bytes (https://www.postgresql.org/docs/current/limits.html). */
const mostValues = 65535

/** What a Bind message takes besides its values, at most: names and counts. */
const overhead = 200

/** For each value: its format and its length. */
const overheadOfValue = 6

/**
 * The values of a statement as they are sent, captured: what a caller writes into a buffer afterwards changes nothing.
 *
 * @param longest the longest message, in bytes
 * @throws FST_PG_SCOPE_QUERY_INVALID
 */
export function parametersOf (values: readonly unknown[], longest = longestMessage): WireValue[] {
  const { length } = values
  if (length > mostValues) throw invalidQuery(`a statement takes at most ${mostValues} values, got ${length}: pass an array as one value, and use unnest($1::int[])`)
  const limit = longest - overhead - overheadOfValue * length
  const parameters: WireValue[] = new Array(length)
  let units = 0
  for (let i = 0; i < length; i++) {
    const parameter = parameters[i] = toWire(values[i], i)
    units += parameter?.length ?? 0
  }
  // A UTF-16 unit takes up to three bytes of UTF-8: only what may be too large is counted.
  if (3 * units > limit && sizeOf(parameters) > limit) throw tooLarge(parameters, longest)
  for (let i = 0; i < length; i++) if (Buffer.isBuffer(parameters[i])) parameters[i] = Buffer.from(parameters[i] as Buffer)
  return parameters
}

/** @throws FST_PG_SCOPE_QUERY_INVALID where PostgreSQL would not take so long a text */
export function checkTextSize (text: string, longest = longestMessage): void {
  if (3 * text.length <= longest - overhead) return
  const bytes = Buffer.byteLength(text)
  if (bytes > longest - overhead) throw invalidQuery(`its text may take ${longest - overhead} bytes, got ${bytes}`)
}

function toWire (value: unknown, index: number): WireValue {
  let parameter: WireValue
  try {
    // An object whose toJSON() returns nothing is NULL.
    parameter = prepareValue(typeof value === 'object' && isAnyArrayBuffer(value) ? Buffer.from(value) : value) ?? null
  } catch (error) {
    throw notConverted(index, (error as Error)?.name ?? 'it threw', showsValue(error) ? undefined : error)
  }
  if (parameter === null || typeof parameter === 'string' || Buffer.isBuffer(parameter)) return parameter
  throw notConverted(index, `its toString() returned ${typeof parameter}`)
}

/**
 * Whether an error of the conversion is pg's or V8's own about a value that contains itself: these show parts of the value. Any other
 * comes from the value's own toPostgres() or toJSON(), and is its author's to word.
 */
function showsValue (error: unknown): boolean {
  return error instanceof Error && /^(?:circular reference detected|Converting circular structure)/.test(error.message)
}

function notConverted (index: number, why: string, cause?: unknown): Error {
  return invalidQuery(`the value of $${index + 1} cannot be converted (${why})`, cause)
}

function sizeOf (parameters: readonly WireValue[]): number {
  let bytes = 0
  for (const parameter of parameters) if (parameter !== null) bytes += Buffer.byteLength(parameter)
  return bytes
}

function tooLarge (parameters: readonly WireValue[], longest: number): Error {
  const sizes = parameters.map((parameter) => parameter === null ? 0 : Buffer.byteLength(parameter))
  const largest = sizes.reduce((a, b) => Math.max(a, b), 0)
  const at = sizes.indexOf(largest)
  const type = typeof parameters[at] === 'string' ? 'string' : 'Buffer'
  return invalidQuery(`the values of one statement may take ${longest} bytes, and $${at + 1} alone is a ${type} of ${largest}; ` +
    'send it in parts, or with COPY through app.db.lease(fn)')
}
