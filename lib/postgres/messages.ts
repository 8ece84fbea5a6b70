/** A parameter as it is sent: text, or bytes. */
export type WireValue = string | Buffer | null

/** The server rejects a longer message, and ends the connection (MaxAllocSize in PostgreSQL's source). */
export const longestMessage = 0x3ffffffe

/** The size of a piece, in which messages are collected. Bytes. */
const pieceSize = 8192

/** A larger value is a piece of its own, so that it is copied once at most. Bytes. */
const largest = 65536

/** Sends bytes, in the order of the calls. */
export interface ByteSink {
  write (bytes: Buffer): void
}

/**
 * Encodes messages of the client, and collects them so that a batch is one write to the socket
 * (https://www.postgresql.org/docs/current/protocol-message-formats.html). Nothing is sent before send(): a batch that
 * cannot be written leaves nothing behind.
 */
export class Messages {
  /** Full pieces; the last one is still being written. */
  #pieces: Buffer[] = []
  #bytes = Buffer.allocUnsafeSlow(pieceSize)
  #length = 0
  /** The number of bytes in the full pieces. */
  #before = 0
  /** The message that is being written: the position of its length, the piece of that, and its beginning. */
  #head = 0
  #headPiece = this.#bytes
  #start = 0
  readonly #longest: number

  /** @param longest the longest message, in bytes */
  constructor (longest = longestMessage) {
    this.#longest = longest
  }

  parse (name: string, text: string): void {
    this.#begin(0x50) // P
    this.#string(name)
    this.#string(text)
    this.#int16(0) // the server infers the types of the parameters
    this.#end()
  }

  /** Binds to the unnamed portal; the format of all rows is text. */
  bind (name: string, values: readonly WireValue[]): void {
    this.#begin(0x42) // B
    this.#string('')
    this.#string(name)
    this.#formats(values)
    this.#int16(values.length)
    for (const value of values) this.#value(value)
    this.#int16(0)
    this.#end()
  }

  /** Asks for the columns of the unnamed portal. */
  describe (): void {
    this.#begin(0x44) // D
    this.#byte(0x50)
    this.#string('')
    this.#end()
  }

  /** Requests all rows of the unnamed portal. */
  execute (): void {
    this.#begin(0x45) // E
    this.#string('')
    this.#int32(0)
    this.#end()
  }

  /** Closes a prepared statement. If it does not exist, that is not an error. */
  close (name: string): void {
    this.#begin(0x43) // C
    this.#byte(0x53)
    this.#string(name)
    this.#end()
  }

  sync (): void {
    this.#begin(0x53) // S
    this.#end()
  }

  /** Uses the simple protocol, which accepts several statements in one text. */
  query (text: string): void {
    this.#begin(0x51) // Q
    this.#string(text)
    this.#end()
  }

  /** Sends everything that was written since the last call. */
  send (sink: ByteSink): void {
    const pieces = this.#pieces
    if (pieces.length > 0) {
      for (const piece of pieces) sink.write(piece)
      this.#pieces = []
      this.#before = 0
    }
    const length = this.#length
    this.#length = 0
    sink.write(Buffer.from(this.#bytes.subarray(0, length)))
  }

  /** Forgets what was written. */
  discard (): void {
    this.#pieces = []
    this.#before = 0
    this.#length = 0
  }

  #begin (type: number): void {
    this.#room(5)
    this.#start = this.#before + this.#length
    this.#bytes[this.#length++] = type
    this.#head = this.#length
    this.#headPiece = this.#bytes
    this.#length += 4
  }

  #end (): void {
    const length = this.#before + this.#length - this.#start - 1
    if (length > this.#longest) throw new RangeError(`a message of ${length} bytes is larger than the server accepts`)
    this.#headPiece.writeInt32BE(length, this.#head)
  }

  #formats (values: readonly WireValue[]): void {
    if (!values.some(Buffer.isBuffer)) return this.#int16(0)
    this.#int16(values.length)
    for (const value of values) this.#int16(Buffer.isBuffer(value) ? 1 : 0)
  }

  #value (value: WireValue): void {
    if (value === null) return this.#int32(-1)
    if (typeof value !== 'string') {
      this.#int32(value.length)
      this.#raw(value)
    } else if (value.length < pieceSize) {
      // The piece of the length may be full before the text is written.
      this.#room(4 + 3 * value.length)
      const at = this.#length
      this.#length += 4 + this.#bytes.write(value, at + 4, 'utf8')
      this.#bytes.writeInt32BE(this.#length - at - 4, at)
    } else this.#value(Buffer.from(value))
  }

  #string (text: string): void {
    this.#text(text)
    this.#byte(0)
  }

  #text (text: string): void {
    if (text === '') return
    if (text.length >= pieceSize) return this.#raw(Buffer.from(text))
    // No UTF-16 unit takes more than three bytes of UTF-8.
    this.#room(3 * text.length)
    this.#length += this.#bytes.write(text, this.#length, 'utf8')
  }

  #raw (bytes: Buffer): void {
    if (bytes.length <= largest) {
      this.#room(bytes.length)
      this.#length += bytes.copy(this.#bytes, this.#length)
    } else {
      this.#next(pieceSize)
      this.#pieces.push(bytes)
      this.#before += bytes.length
    }
  }

  #byte (value: number): void {
    this.#room(1)
    this.#bytes[this.#length++] = value
  }

  #int16 (value: number): void {
    this.#room(2)
    this.#length = this.#bytes.writeUInt16BE(value, this.#length)
  }

  #int32 (value: number): void {
    this.#room(4)
    this.#length = this.#bytes.writeInt32BE(value, this.#length)
  }

  #room (length: number): void {
    if (this.#length + length > this.#bytes.length) this.#next(Math.max(pieceSize, length))
  }

  /** Begins another piece. */
  #next (size: number): void {
    if (this.#length > 0) this.#pieces.push(this.#bytes.subarray(0, this.#length))
    this.#before += this.#length
    this.#bytes = Buffer.allocUnsafeSlow(size)
    this.#length = 0
  }
}
