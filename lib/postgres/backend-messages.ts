import pg from 'pg'
import type { FieldDef } from 'pg'
import { pgScopeError } from '../errors.ts'

/** A message of the server in the form that pg's client expects: `name` is the name of its event. */
export interface BackendMessage {
  readonly name: string
  readonly length: number
}

/** The bytes are not PostgreSQL's protocol: nothing that follows on this connection can be trusted. */
export class ProtocolViolation extends Error {
  constructor (what: string) {
    super(`Protocol violation: ${what}`)
    this.name = 'ProtocolViolation'
  }
}

type Read = (body: Body, length: number) => BackendMessage

/** The readers by the type byte of the message (https://www.postgresql.org/docs/current/protocol-message-formats.html). */
const readers: (Read | undefined)[] = []

function define (types: Record<string, Read>): void {
  for (const [type, read] of Object.entries(types)) readers[type.charCodeAt(0)] = read
}

/**
 * Lengths are checked before the message has arrived: the client would wait for the bytes of a wrong one. PostgreSQL's
 * own limit is 1 GiB.
 */
const longest = 0x3fffffff
const longestOfMost = 65536
const longTypes = 'DTdENVSAt'

/**
 * @param length the length in the header, which includes its own four bytes
 * @throws ProtocolViolation if no message has such a header
 */
export function checkHeader (type: number, length: number): void {
  if (readers[type] === undefined) throw new ProtocolViolation(`there is no message of type ${type}`)
  const limit = longTypes.includes(String.fromCharCode(type)) ? longest : longestOfMost
  if (length < 4 || length > limit) {
    throw new ProtocolViolation(`a message of type ${String.fromCharCode(type)} with a length of ${length}`)
  }
}

/** Reads the message whose body is in `bytes` from `start` to `end`. @throws ProtocolViolation */
export function readMessage (type: number, bytes: Buffer, start: number, end: number): BackendMessage {
  const body = new Body(String.fromCharCode(type), bytes, start, end)
  const message = readers[type]!(body, end - start + 4)
  body.finish()
  return message
}

/** Reads the body of a message from its beginning to its end, and not beyond it. */
class Body {
  readonly #type: string
  readonly #bytes: Buffer
  readonly #end: number
  #at: number

  constructor (type: string, bytes: Buffer, start: number, end: number) {
    this.#type = type
    this.#bytes = bytes
    this.#at = start
    this.#end = end
  }

  byte (): number {
    return this.#bytes[this.#take(1)]!
  }

  int16 (): number {
    return this.#bytes.readInt16BE(this.#take(2))
  }

  int32 (): number {
    return this.#bytes.readInt32BE(this.#take(4))
  }

  uint32 (): number {
    return this.#bytes.readUInt32BE(this.#take(4))
  }

  /** The number of elements that follow, each of at least `size` bytes. */
  count (size: number): number {
    const count = this.int16() & 0xffff
    if (count * size > this.#end - this.#at) throw this.#violated()
    return count
  }

  /** Text up to a zero byte. */
  string (): string {
    const zero = this.#bytes.indexOf(0, this.#at)
    if (zero === -1 || zero >= this.#end) throw this.#violated()
    const at = this.#at
    this.#at = zero + 1
    return this.#bytes.toString('utf8', at, zero)
  }

  /** Text that follows its length, or null. */
  value (): string | null {
    const length = this.int32()
    if (length === -1) return null
    if (length < 0) throw this.#violated()
    const at = this.#take(length)
    return this.#bytes.toString('utf8', at, at + length)
  }

  bytes (length: number): Buffer {
    const at = this.#take(length)
    return this.#bytes.subarray(at, at + length)
  }

  rest (): Buffer {
    return this.bytes(this.#end - this.#at)
  }

  finish (): void {
    if (this.#at !== this.#end) throw this.#violated()
  }

  #take (length: number): number {
    const at = this.#at
    if (length > this.#end - at) throw this.#violated()
    this.#at = at + length
    return at
  }

  #violated (): ProtocolViolation {
    return new ProtocolViolation(`a message of type ${this.#type} does not have the length in its header`)
  }
}

function bare (name: string): Read {
  return (_body, length) => ({ name, length })
}

function copyResponse (name: string): Read {
  return (body, length) => {
    const binary = body.byte() !== 0
    const columnTypes = Array.from({ length: body.count(2) }, () => body.int16())
    return { name, length, binary, columnTypes }
  }
}

define({
  1: bare('parseComplete'),
  2: bare('bindComplete'),
  3: bare('closeComplete'),
  n: bare('noData'),
  s: bare('portalSuspended'),
  I: bare('emptyQuery'),
  c: bare('copyDone'),
  G: copyResponse('copyInResponse'),
  H: copyResponse('copyOutResponse'),
  W: copyResponse('replicationStart'),
  D: dataRow,
  T: rowDescription,
  R: authentication,
  E: (body, length) => {
    const { message, ...fields } = report(body)
    return Object.assign(new pg.DatabaseError(message ?? '', length, 'error'), fields) as BackendMessage
  },
  N: (body, length) => ({ name: 'notice', length, ...report(body) }),
  C: (body, length) => ({ name: 'commandComplete', length, text: body.string() }),
  Z: (body, length) => {
    const status = String.fromCharCode(body.byte())
    if (!'ITE'.includes(status)) throw new ProtocolViolation('a ReadyForQuery without a known status')
    return { name: 'readyForQuery', length, status }
  },
  S: (body, length) => ({
    name: 'parameterStatus', length, parameterName: body.string(), parameterValue: body.string()
  }),
  K: (body, length) => {
    const ids = { processID: body.int32(), secretKey: body.int32() }
    body.rest() // longer keys belong to a version of the protocol that pg does not ask for
    return { name: 'backendKeyData', length, ...ids }
  },
  A: (body, length) => ({
    name: 'notification', length, processId: body.int32(), channel: body.string(), payload: body.string()
  }),
  t: (body, length) => {
    const parameterCount = body.count(4)
    return {
      name: 'parameterDescription',
      length,
      parameterCount,
      dataTypeIDs: Array.from({ length: parameterCount }, () => body.uint32())
    }
  },
  d: (body, length) => ({ name: 'copyData', length, chunk: body.rest() })
})

function dataRow (body: Body, length: number): BackendMessage {
  const fieldCount = body.count(4)
  const fields: (string | null)[] = new Array(fieldCount)
  try {
    for (let i = 0; i < fieldCount; i++) fields[i] = body.value()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_STRING_TOO_LONG') throw error
    body.rest()
    return new UnreadableRow(length)
  }
  return { name: 'dataRow', length, fieldCount, fields } as BackendMessage
}

/** A row with a value that is too long for a string in Node. Reading its fields throws; the connection is intact. */
class UnreadableRow implements BackendMessage {
  readonly name = 'dataRow'
  readonly length: number

  constructor (length: number) {
    this.length = length
  }

  get fields (): never {
    throw pgScopeError('FST_PG_SCOPE_QUERY_INVALID',
      `A row of ${this.length} bytes holds a value that is longer than a string in Node.js can be (512 MiB): ` +
      'select it in parts, with substring().')
  }
}

/** The minimum size of a column's description: the zero byte of its name, and 18 bytes. */
const shortestField = 19

function rowDescription (body: Body, length: number): BackendMessage {
  const fieldCount = body.count(shortestField)
  const fields: FieldDef[] = new Array(fieldCount)
  for (let i = 0; i < fieldCount; i++) {
    fields[i] = {
      name: body.string(),
      tableID: body.uint32(),
      columnID: body.int16(),
      dataTypeID: body.uint32(),
      dataTypeSize: body.int16(),
      dataTypeModifier: body.int32(),
      format: body.int16() === 0 ? 'text' : 'binary'
    }
  }
  return { name: 'rowDescription', length, fieldCount, fields } as BackendMessage
}

function authentication (body: Body, length: number): BackendMessage {
  const method = body.int32()
  switch (method) {
    case 0: return { name: 'authenticationOk', length }
    case 3: return { name: 'authenticationCleartextPassword', length }
    case 5: return { name: 'authenticationMD5Password', length, salt: body.bytes(4) } as BackendMessage
    case 10: {
      const mechanisms: string[] = []
      for (let name = body.string(); name !== ''; name = body.string()) mechanisms.push(name)
      return { name: 'authenticationSASL', length, mechanisms } as BackendMessage
    }
    case 11: return { name: 'authenticationSASLContinue', length, data: body.rest().toString() } as BackendMessage
    case 12: return { name: 'authenticationSASLFinal', length, data: body.rest().toString() } as BackendMessage
    default: throw new Error(`The server requests an authentication method that pg does not support (${method})`)
  }
}

/**
 * The fields of an error or a notice, by their letters
 * (https://www.postgresql.org/docs/current/protocol-error-fields.html).
 */
const reportFields: Record<string, string | undefined> = {
  S: 'severity',
  C: 'code',
  M: 'message',
  D: 'detail',
  H: 'hint',
  P: 'position',
  p: 'internalPosition',
  q: 'internalQuery',
  W: 'where',
  s: 'schema',
  t: 'table',
  c: 'column',
  d: 'dataType',
  n: 'constraint',
  F: 'file',
  L: 'line',
  R: 'routine'
}

function report (body: Body): Record<string, string | undefined> {
  const fields: Record<string, string | undefined> = {}
  for (const name of Object.values(reportFields)) fields[name!] = undefined
  for (let letter = body.byte(); letter !== 0; letter = body.byte()) {
    const value = body.string()
    const name = reportFields[String.fromCharCode(letter)]
    if (name !== undefined) fields[name] = value
  }
  return fields
}
