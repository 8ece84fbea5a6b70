import { isAnyArrayBuffer } from 'node:util/types'
import pg from 'pg'
import { longestMessage, type WireValue } from '../postgres/messages.ts'
import { invalidQuery } from './invalid-query.ts'

// Public in pg, but missing in its types.
const { prepareValue } = (pg as unknown as { utils: { prepareValue (value: unknown): WireValue } }).utils

/** The protocol counts parameters in two bytes (https://www.postgresql.org/docs/current/limits.html). */
const maxValues = 65535

/** The most bytes that a Bind message takes besides its values: names and counts. */
const overhead = 200

/** The bytes for each value: its format and its length. */
const overheadPerValue = 6

/**
 * Converts the values of a statement to what is sent. Buffers are copied, so that later changes by the caller have no
 * effect.
 *
 * @param longest the size of the longest message in bytes
 * @throws FST_PG_SCOPE_QUERY_INVALID
 */
export function parametersOf (values: readonly unknown[], longest = longestMessage): WireValue[] {
  const { length } = values
  if (length > maxValues) {
    throw invalidQuery(`\`values\` must have at most ${maxValues} elements, got ${length}: ` +
      'pass an array as one value, and use unnest($1::int[])')
  }
  const limit = longest - overhead - overheadPerValue * length
  const parameters: WireValue[] = new Array(length)
  let units = 0
  for (let i = 0; i < length; i++) {
    const parameter = parameters[i] = toWire(values[i], i)
    units += parameter?.length ?? 0
  }
  // A UTF-16 code unit takes up to three bytes in UTF-8, so the exact size matters only above a third of the limit.
  if (3 * units > limit && sizeOf(parameters) > limit) throw tooLarge(parameters, longest)
  for (let i = 0; i < length; i++) {
    const parameter = parameters[i]
    if (Buffer.isBuffer(parameter)) parameters[i] = Buffer.from(parameter)
  }
  return parameters
}

/** @throws FST_PG_SCOPE_QUERY_INVALID if the text is longer than PostgreSQL accepts */
export function checkTextSize (text: string, longest = longestMessage): void {
  if (3 * text.length <= longest - overhead) return
  const bytes = Buffer.byteLength(text)
  if (bytes > longest - overhead) {
    throw invalidQuery(`the text must have at most ${longest - overhead} bytes, got ${bytes}`)
  }
}

function toWire (value: unknown, index: number): WireValue {
  let parameter: WireValue
  try {
    // An object whose toJSON() returns undefined becomes NULL.
    parameter = prepareValue(typeof value === 'object' && isAnyArrayBuffer(value) ? Buffer.from(value) : value) ?? null
  } catch (error) {
    throw notConverted(index, (error as Error)?.name ?? 'it threw', showsValue(error) ? undefined : error)
  }
  if (parameter === null || typeof parameter === 'string' || Buffer.isBuffer(parameter)) return parameter
  throw notConverted(index, `its toString() returned ${typeof parameter}`)
}

/**
 * Whether a conversion error is pg's or V8's error about a circular value, whose message contains parts of the value.
 * Any other error comes from the value's own toPostgres() or toJSON(), whose author is responsible for its message.
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
  return invalidQuery(`the values of one statement may have ${longest} bytes in total; ` +
    `the largest, $${at + 1}, is a ${type} of ${largest} bytes; ` +
    'send it in parts, or with COPY through app.db.lease(fn)')
}
