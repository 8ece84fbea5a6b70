/** Type and length. */
const headerSize = 5

/** Cuts the bytes of one direction into messages (https://www.postgresql.org/docs/current/protocol-message-formats.html). */
export class Frames {
  #parts: Buffer[] = []
  /** The number of bytes in the parts, and the number from which on they hold a whole message. */
  #length = 0
  #needed = headerSize

  /** @returns whole messages: type, length and body */
  read (chunk: Buffer): Buffer[] {
    this.#parts.push(chunk)
    this.#length += chunk.length
    const messages: Buffer[] = []
    if (this.#length < this.#needed) return messages
    const bytes = this.#parts.length === 1 ? chunk : Buffer.concat(this.#parts)
    let at = 0
    this.#needed = headerSize
    while (bytes.length - at >= headerSize) {
      const size = 1 + bytes.readUInt32BE(at + 1)
      if (bytes.length - at < size) {
        this.#needed = size
        break
      }
      messages.push(bytes.subarray(at, at + size))
      at += size
    }
    this.#parts = at === bytes.length ? [] : [bytes.subarray(at)]
    this.#length = bytes.length - at
    return messages
  }
}

/** @param type one character */
export function message (type: string, ...parts: (string | Buffer)[]): Buffer {
  const body = Buffer.concat(parts.map((part) => typeof part === 'string' ? Buffer.from(part) : part))
  const header = Buffer.alloc(headerSize)
  header.write(type)
  header.writeUInt32BE(body.length + 4, 1)
  return Buffer.concat([header, body])
}

export function typeOf (bytes: Buffer): string {
  return String.fromCharCode(bytes[0]!)
}

/** The zero-terminated strings that follow `from` in a message. */
export function stringsOf (bytes: Buffer, count: number, from = headerSize): string[] {
  const strings: string[] = []
  for (let at = from; strings.length < count;) {
    const end = bytes.indexOf(0, at)
    strings.push(bytes.toString('utf8', at, end))
    at = end + 1
  }
  return strings
}

/** The first column of a DataRow, or null. */
export function firstColumn (row: Buffer): string | null {
  const length = row.readInt32BE(headerSize + 2)
  return length === -1 ? null : row.toString('utf8', headerSize + 6, headerSize + 6 + length)
}

/** The fields of an ErrorResponse by their types: `S` severity, `C` SQLSTATE, `M` message. */
export function errorFields (error: Buffer): Record<string, string> {
  const fields: Record<string, string> = Object.create(null)
  for (let at = headerSize; error[at] !== undefined && error[at] !== 0;) {
    const [text] = stringsOf(error, 1, at + 1)
    fields[String.fromCharCode(error[at]!)] = text!
    at += 2 + Buffer.byteLength(text!)
  }
  return fields
}

export function errorMessage (code: string, text: string): Buffer {
  return message('E', `SERROR\0VERROR\0C${code}\0M${text}\0\0`)
}

export const sync = message('S')

export function query (text: string): Buffer {
  return message('Q', text, '\0')
}
