import type { EventEmitter } from 'node:events'
import type { Duplex } from 'node:stream'
import type pg from 'pg'
import { type BackendMessage, checkHeader, ProtocolViolation, readMessage } from './backend-messages.ts'

/** The part of pg's Connection that is used here. */
interface Wire extends EventEmitter {
  attachListeners (stream: Duplex): void
  /** Set by pg once there is a listener for 'message'. */
  readonly _emitMessage: boolean
}

/** To be called before the client connects. */
export function readAnswersOf (client: pg.Client): Answers {
  return new Answers(client.connection as unknown as Wire)
}

/** Type and length. */
const headerSize = 5

/** Messages of the login. After it, they would make pg send the password, or cancel a statement of another client. */
const loginTypes = new Set([0x52, 0x4b]) // R K
const readyForQuery = 0x5a // Z

/**
 * Reads what the server sends, in place of pg's own parser, which may throw in the socket's 'data' event and so
 * crash the process. A protocol violation closes the connection instead, and its statements fail with that error.
 */
export class Answers {
  /** performance.now() when the last bytes arrived. */
  heard = performance.now()
  readonly #wire: Wire
  /** The start of an incomplete message, and the minimum number of bytes that are missing. */
  #parts: Buffer[] = []
  #missing = 0
  #loggedIn = false
  #broken = false

  constructor (wire: Wire) {
    this.#wire = wire
    // The only 'data' listener: pg-copy-streams removes it while it reads by itself.
    wire.attachListeners = (stream) => { stream.on('data', (chunk: Buffer) => this.#received(stream, chunk)) }
  }

  #received (stream: Duplex, chunk: Buffer): void {
    this.heard = performance.now()
    if (this.#broken) return
    try {
      this.#read(chunk)
    } catch (error) {
      this.#broken = true
      this.#parts = []
      stream.destroy(error as Error)
    }
  }

  #read (chunk: Buffer): void {
    let bytes = chunk
    if (this.#parts.length > 0) {
      this.#parts.push(chunk)
      this.#missing -= chunk.length
      if (this.#missing > 0) return
      bytes = Buffer.concat(this.#parts)
      this.#parts = []
    }
    let at = 0
    let needed = headerSize
    while (bytes.length - at >= headerSize) {
      const type = bytes[at]!
      const length = bytes.readUInt32BE(at + 1)
      checkHeader(type, length)
      if (this.#loggedIn && loginTypes.has(type)) throw new ProtocolViolation('a message of the login came after it')
      needed = 1 + length
      if (bytes.length - at < needed) break
      const message = readMessage(type, bytes, at + headerSize, at + needed)
      at += needed
      needed = headerSize
      if (type === readyForQuery) this.#loggedIn = true
      this.#emit(message)
    }
    if (at === bytes.length) return
    this.#parts = [bytes.subarray(at)]
    this.#missing = needed - (bytes.length - at)
  }

  #emit (message: BackendMessage): void {
    const { name } = message
    if (this.#wire._emitMessage) this.#wire.emit('message', message)
    if (name === 'notification' || name === 'notice') this.#emitToUser(name, message)
    else this.#wire.emit(name === 'error' ? 'errorMessage' : name, message)
  }

  /** The listeners are the user's. What they throw is rethrown outside, as it does not concern the connection. */
  #emitToUser (name: string, message: BackendMessage): void {
    try {
      this.#wire.emit(name, message)
    } catch (error) {
      process.nextTick(() => { throw error })
    }
  }
}
