import { breakOff, type RawResponse } from './delivery.ts'

/** What a body is sent from. */
export interface BodySource {
  /** A transaction is open that the body may still fail with. */
  readonly open: boolean
  /** The end of the transaction: the body ends when it is answered. */
  finish (): Promise<void>
  /** The body failed before its first byte has left: an ordinary error can be sent. */
  replace (error: Error): void
  /** The body failed after its first byte has left. */
  broken (error: Error | undefined): void
}

type Callback = (error?: Error | null) => void
type Piece = [chunk: any, encoding: BufferEncoding | undefined, callback: Callback | undefined]

/**
 * A response whose body ends only when the transaction behind it has: what a client reads to its end is committed, where it is to be.
 * While a transaction is open, the newest piece of the body waits for the next one or for the end, because with a content-length it
 * may be what completes the body. A failure breaks the response off.
 *
 * It replaces write(), end() and destroy() of the response itself, not the payload: a session may be used for the first time while
 * its body is already being sent.
 */
export class HeldResponse {
  readonly #raw: RawResponse
  readonly #source: BodySource
  readonly #original: Pick<RawResponse, 'write' | 'end' | 'destroy'>
  #piece: Piece | null = null
  /** Bytes that are still missing of those that content-length announces; NaN where it announces none. */
  #missing: number | null = null
  #state: 'held' | 'ending' | 'released' = 'held'

  constructor (raw: RawResponse, source: BodySource) {
    this.#raw = raw
    this.#source = source
    const { write, end, destroy } = raw
    this.#original = { write, end, destroy }
    raw.write = ((...args: Piece) => this.#write(asPiece(args))) as typeof raw.write
    raw.end = ((...args: Piece) => this.#end(asPiece(args))) as typeof raw.end
    raw.destroy = (error) => this.#destroy(error)
  }

  /** From here on the response is an ordinary one. */
  release (): void {
    this.#state = 'released'
    this.#piece = null
  }

  /** The body cannot be sent to its end. */
  fail (error: Error): void {
    if (this.#state === 'released') return
    this.release()
    if (!this.#raw.headersSent) return this.#source.replace(error)
    this.#source.broken(error)
    breakOff(this.#raw)
  }

  #write (piece: Piece): boolean {
    if (this.#state === 'released') return this.#original.write.apply(this.#raw, piece as never)
    const [chunk, , callback] = piece
    if (typeof chunk !== 'string' && !(chunk instanceof Uint8Array)) {
      this.fail(new TypeError(`A stream that is sent must yield strings or bytes, got ${chunk === null ? 'null' : typeof chunk}.`))
      return false
    }
    const newest = this.#piece
    if (!this.#source.open) {
      this.#piece = null
      if (newest !== null) this.#pass(newest)
      return this.#pass(piece)
    }
    if (chunk.length === 0) {
      if (callback !== undefined) process.nextTick(callback)
      return true
    }
    this.#piece = piece
    if (newest === null) return true
    if (this.#completes(newest)) {
      this.fail(new RangeError('The body is longer than its content-length announces.'))
      return false
    }
    return this.#pass(newest)
  }

  /** Whether the client would take the body for complete with this piece. */
  #completes ([chunk, encoding]: Piece): boolean {
    this.#missing ??= Number(this.#raw.getHeader('content-length') ?? NaN)
    if (Number.isNaN(this.#missing)) return false
    this.#missing -= Buffer.byteLength(chunk, encoding)
    return this.#missing <= 0
  }

  #pass (piece: Piece): boolean {
    return this.#original.write.apply(this.#raw, piece as never)
  }

  #end (piece: Piece): RawResponse {
    if (this.#state === 'released') return this.#original.end.apply(this.#raw, piece as never)
    if (this.#state === 'held') {
      this.#state = 'ending'
      this.#source.finish().then(() => this.#finish(piece)).catch((error) => this.fail(error))
    }
    return this.#raw
  }

  #finish (piece: Piece): void {
    // The client has left meanwhile.
    if (this.#state === 'released') return
    const newest = this.#piece
    this.release()
    if (newest !== null) this.#pass(newest)
    this.#original.end.apply(this.#raw, piece as never)
  }

  /** Fastify does this when the payload fails and its first byte has left. */
  #destroy (error: Error | undefined): RawResponse {
    if (this.#state === 'released') return this.#original.destroy.call(this.#raw, error)
    this.release()
    this.#source.broken(error)
    breakOff(this.#raw)
    return this.#raw
  }
}

function asPiece ([chunk, encoding, callback]: unknown[]): Piece {
  if (typeof chunk === 'function') return [undefined, undefined, chunk as Callback]
  if (typeof encoding === 'function') return [chunk, undefined, encoding as Callback]
  return [chunk, encoding as BufferEncoding, callback as Callback]
}
