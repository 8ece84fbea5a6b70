/** A parameter as it stands on the wire: text, or bytes. */
export type WireValue = string | Buffer | null

/** The server refuses a longer message, and ends the connection (MaxAllocSize in PostgreSQL's source). */
export const longestMessage = 0x3ffffffe

/** Where messages are gathered. */
const pieceSize = 8192

/** What is larger is a piece of its own, so that it is copied only once or not at all. */
const largest = 65536

/** Sends bytes, in the order of the calls. */
export interface ByteSink {
  write (bytes: Buffer): void
}

/**
 * What a client sends, gathered so that a batch is one write to the socket
 * (https://www.postgresql.org/docs/current/protocol-message-formats.html). Nothing is sent before send(): a batch that
 * cannot be written leaves nothing behind.
 */
export class Messages {
  /** Full pieces; the last one is still being written. */
  #pieces: Buffer[] = []
  #bytes = Buffer.allocUnsafeSlow(pieceSize)
  #length = 0
  /** How many bytes the full pieces hold. */
  #before = 0
  /** The message that is being written: where it has its length, in which piece, and where it begins. */
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
    this.#int16(0) // the server finds out the parameters' types
    this.#end()
  }

  /** Into the unnamed portal; rows come as text. */
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

  /** What columns the unnamed portal has. */
  describe (): void {
    this.#begin(0x44) // D
    this.#byte(0x50)
    this.#string('')
    this.#end()
  }

  /** All rows of the unnamed portal. */
  execute (): void {
    this.#begin(0x45) // E
    this.#string('')
    this.#int32(0)
    this.#end()
  }

  /** A prepared statement is not needed any more; one that does not exist is no error. */
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

  /** By the simple protocol, which takes several statements in one text. */
  query (text: string): void {
    this.#begin(0x51) // Q
    this.#string(text)
    this.#end()
  }

  /** Hands over all that was written since the last time. */
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
    if (length > this.#longest) throw new RangeError(`a message of ${length} bytes is larger than the server takes`)
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
      // The piece that the length stands in may be full before the text is written.
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
