/** What was read of an HTTP/1.1 response. */
export interface HttpResponse {
  /** 0 when not even the status line was read. */
  status: number
  /** By lower-case name; repeated headers are joined with ', '. */
  headers: Record<string, string>
  body: string
  /** False when the connection ended before the response did. */
  complete: boolean
  /** Why the connection failed, if it did. */
  error?: Error
}

type Framing = 'none' | 'length' | 'chunked' | 'close'

/** Reads one response out of chunks with arbitrary boundaries (RFC 9112, section 6). */
export class HttpResponseReader {
  status = 0
  headers: Record<string, string> = {}
  state: 'head' | 'body' | 'chunk-size' | 'chunk' | 'trailers' | 'complete' = 'head'
  readonly #method: string
  readonly #body: Buffer[] = []
  #pending: Buffer = Buffer.alloc(0)
  #framing: Framing = 'none'
  #missing = 0

  constructor (method: string) {
    this.#method = method
  }

  get bodyBytes (): number { return this.#body.reduce((sum, part) => sum + part.length, 0) }

  push (chunk: Buffer): void {
    this.#pending = Buffer.concat([this.#pending, chunk])
    while (this.#step());
  }

  /** The other side has ended: the end of a body that has no other. */
  end (): void {
    if (this.state === 'body' && this.#framing === 'close') this.state = 'complete'
  }

  response (error?: Error): HttpResponse {
    const { status, headers, state } = this
    const body = Buffer.concat(this.#body).toString('utf8')
    return { status, headers: { ...headers }, body, complete: state === 'complete', ...(error && { error }) }
  }

  /** False when more bytes are needed, or no more. */
  #step (): boolean {
    switch (this.state) {
      case 'head': return this.#readHead()
      case 'body': return this.#readBody()
      case 'chunk-size': return this.#readChunkSize()
      case 'chunk': return this.#readChunk()
      case 'trailers': return this.#readTrailer()
      case 'complete': return false
    }
  }

  #readHead (): boolean {
    const end = this.#pending.indexOf('\r\n\r\n')
    if (end === -1) return false
    const [statusLine = '', ...lines] = this.#take(end, 4).toString('latin1').split('\r\n')
    const status = Number(statusLine.split(' ')[1])
    // 100 Continue and 103 Early Hints come before the response, not instead of it.
    if (status >= 100 && status < 200 && status !== 101) return true
    this.status = status
    for (const line of lines) {
      const colon = line.indexOf(':')
      const name = line.slice(0, colon).toLowerCase()
      const value = line.slice(colon + 1).trim()
      this.headers[name] = name in this.headers ? `${this.headers[name]}, ${value}` : value
    }
    this.#startBody()
    return true
  }

  #startBody (): void {
    const bodiless = this.#method === 'HEAD' || [101, 204, 304].includes(this.status)
    const length = this.headers['content-length']
    if (bodiless) this.state = 'complete'
    else if (this.headers['transfer-encoding']?.toLowerCase().includes('chunked')) {
      this.#framing = 'chunked'
      this.state = 'chunk-size'
    } else if (length === undefined) {
      this.#framing = 'close'
      this.#missing = Infinity
      this.state = 'body'
    } else {
      this.#framing = 'length'
      this.#missing = Number(length)
      this.state = this.#missing === 0 ? 'complete' : 'body'
    }
  }

  #readBody (): boolean {
    this.#takeBody()
    if (this.#missing === 0) this.state = 'complete'
    return false
  }

  #readChunkSize (): boolean {
    const end = this.#pending.indexOf('\r\n')
    if (end === -1) return false
    this.#missing = Number.parseInt(this.#take(end, 2).toString('latin1'), 16)
    this.state = this.#missing === 0 ? 'trailers' : 'chunk'
    return true
  }

  #readChunk (): boolean {
    this.#takeBody()
    if (this.#missing > 0 || this.#pending.length < 2) return false
    this.#take(0, 2)
    this.state = 'chunk-size'
    return true
  }

  #readTrailer (): boolean {
    const end = this.#pending.indexOf('\r\n')
    if (end === -1) return false
    if (this.#take(end, 2).length === 0) this.state = 'complete'
    return true
  }

  #takeBody (): void {
    const part = this.#take(Math.min(this.#missing, this.#pending.length), 0)
    if (part.length > 0) this.#body.push(part)
    this.#missing -= part.length
  }

  #take (length: number, separator: number): Buffer {
    const taken = this.#pending.subarray(0, length)
    this.#pending = this.#pending.subarray(length + separator)
    return taken
  }
}
