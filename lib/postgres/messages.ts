/** A parameter as it stands on the wire: text, or bytes. */
export type WireValue = string | Buffer | null

const least = 8192

/** Larger ones are given away with what was written in them, and not kept for the next. */
const most = 65536

/**
 * What a client sends, gathered into one piece of bytes, so that a batch is one write to the socket
 * (https://www.postgresql.org/docs/current/protocol-message-formats.html).
 */
export class Messages {
  #bytes = Buffer.allocUnsafeSlow(least)
  #length = 0
  /** Where the message that is being written has its length. */
  #head = 0

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

  /** All that was written since the last time. */
  take (): Buffer {
    const length = this.#length
    this.#length = 0
    if (length <= most) return Buffer.from(this.#bytes.subarray(0, length))
    const bytes = this.#bytes.subarray(0, length)
    this.#bytes = Buffer.allocUnsafeSlow(least)
    return bytes
  }

  /** Forgets what was written. */
  discard (): void {
    this.#length = 0
  }

  #begin (type: number): void {
    this.#byte(type)
    this.#head = this.#length
    this.#int32(0)
  }

  #end (): void {
    this.#bytes.writeInt32BE(this.#length - this.#head, this.#head)
  }

  #formats (values: readonly WireValue[]): void {
    if (!values.some(Buffer.isBuffer)) return this.#int16(0)
    this.#int16(values.length)
    for (const value of values) this.#int16(Buffer.isBuffer(value) ? 1 : 0)
  }

  #value (value: WireValue): void {
    if (value === null) return this.#int32(-1)
    const at = this.#length
    this.#int32(0)
    if (typeof value === 'string') this.#text(value)
    else {
      this.#room(value.length)
      this.#length += value.copy(this.#bytes, this.#length)
    }
    this.#bytes.writeInt32BE(this.#length - at - 4, at)
  }

  #string (text: string): void {
    this.#text(text)
    this.#byte(0)
  }

  #text (text: string): void {
    if (text === '') return
    // No UTF-16 unit takes more than three bytes of UTF-8; what is long is counted.
    this.#room(text.length < least ? 3 * text.length : Buffer.byteLength(text))
    this.#length += this.#bytes.write(text, this.#length, 'utf8')
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
    if (this.#length + length <= this.#bytes.length) return
    const larger = Buffer.allocUnsafeSlow(Math.max(2 * this.#bytes.length, this.#length + length))
    this.#bytes.copy(larger, 0, 0, this.#length)
    this.#bytes = larger
  }
}
