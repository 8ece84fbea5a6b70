import { kindOf } from '../kind-of.ts'
import { breakOff, type RawResponse } from './delivery.ts'

/** The transaction behind a body. */
export interface BodySource {
  /** A transaction is open: the body fails if the transaction does. */
  readonly open: boolean
  /** Ends the transaction. The body ends when the server has answered. */
  finish (): Promise<void>
  /** The body failed before its first byte was sent: an error response can be sent. */
  replace (error: Error): void
  /** The body failed after its first byte was sent. */
  broken (error: Error | undefined): void
}

type Callback = (error?: Error | null) => void
type Piece = [chunk: any, encoding: BufferEncoding | undefined, callback: Callback | undefined]

/**
 * A response whose body ends only after its transaction has ended: a client that reads the complete body knows that
 * the work is committed. While a transaction is open, the newest piece of the body is held until the next piece or
 * the end, because with a content-length it may complete the body. A failure aborts the response.
 *
 * - held: pieces pass through, the newest is held
 * - ending: the body has ended, and the end of the transaction is awaited
 * - released: the response works as without this class
 *
 * It wraps write(), end() and destroy() of the response, not the payload: a session may be used for the first time
 * while its body is already being sent.
 */
export class HeldResponse {
  readonly #raw: RawResponse
  readonly #source: BodySource
  readonly #original: Pick<RawResponse, 'write' | 'end' | 'destroy'>
  #piece: Piece | null = null
  /** How many bytes of content-length are not sent yet; NaN without a content-length. */
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

  /** Stops holding: the response works as without this class. */
  release (): void {
    this.#state = 'released'
    this.#piece = null
  }

  /** The body cannot be completed. */
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
      this.fail(new TypeError(`A stream that is sent must yield strings or bytes, got ${kindOf(chunk)}.`))
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

  /** Whether the body would be complete for the client after this piece. */
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
    // The client disconnected in the meantime.
    if (this.#state === 'released') return
    const newest = this.#piece
    this.release()
    if (newest !== null) this.#pass(newest)
    this.#original.end.apply(this.#raw, piece as never)
  }

  /** Fastify calls destroy() when the payload fails after its first byte was sent. */
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
