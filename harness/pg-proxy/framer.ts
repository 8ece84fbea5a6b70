/**
 * How the next bytes are framed: the first packets of a client carry no type byte, the answer to an SSLRequest is one
 * byte, and after an accepted SSLRequest nothing can be read any more.
 */
export type Framing = 'untyped' | 'typed' | 'byte' | 'opaque'

export interface Frame {
  /** The type byte as a character; empty for an untyped packet. */
  type: string
  /** Without type and length; empty for types that nobody asked to read. */
  body: Buffer
  /** Where the frame begins in the chunk at hand; 0 when it began in an earlier one. */
  start: number
  end: number
}

const nothing = Buffer.alloc(0)

/**
 * Cuts a stream of chunks, whatever their boundaries, into messages of PostgreSQL's protocol
 * (https://www.postgresql.org/docs/current/protocol-message-formats.html). Bodies are kept for the types in `readable`
 * only, so that a large result passes without being collected.
 */
export class Framer {
  framing: Framing
  readonly #readable: string
  readonly #header = Buffer.alloc(5)
  #headerFilled = 0
  #bodyMissing = 0
  #body: Buffer[] = []

  constructor (framing: Framing, readable: string) {
    this.framing = framing
    this.#readable = readable
  }

  /** A generator, because what a frame says decides how the bytes behind it are framed. */
  * read (chunk: Buffer): Generator<Frame> {
    let at = 0
    let start = 0
    while (at < chunk.length && this.framing !== 'opaque') {
      if (this.framing === 'byte') {
        at++
        yield { type: String.fromCharCode(chunk[start]!), body: nothing, start, end: at }
        start = at
        continue
      }
      const headerSize = this.framing === 'typed' ? 5 : 4
      if (this.#headerFilled < headerSize) {
        const copied = chunk.copy(this.#header, this.#headerFilled, at, at + headerSize - this.#headerFilled)
        this.#headerFilled += copied
        at += copied
        if (this.#headerFilled < headerSize) return
        this.#bodyMissing = this.#header.readInt32BE(headerSize - 4) - 4
        if (this.#bodyMissing < 0) {
          this.framing = 'opaque'
          return
        }
      }
      const type = headerSize === 5 ? String.fromCharCode(this.#header[0]!) : ''
      const taken = Math.min(this.#bodyMissing, chunk.length - at)
      if (type === '' || this.#readable.includes(type)) this.#body.push(chunk.subarray(at, at + taken))
      at += taken
      this.#bodyMissing -= taken
      if (this.#bodyMissing > 0) return
      const body = this.#body.length === 1 ? this.#body[0]! : Buffer.concat(this.#body)
      this.#headerFilled = 0
      this.#body = []
      yield { type, body, start, end: at }
      start = at
    }
  }
}

/** The zero-terminated strings at the head of a body. */
export function cStrings (body: Buffer, count: number): string[] {
  const strings: string[] = []
  let at = 0
  while (strings.length < count) {
    const end = body.indexOf(0, at)
    if (end === -1) break
    strings.push(body.toString('utf8', at, end))
    at = end + 1
  }
  return strings
}
