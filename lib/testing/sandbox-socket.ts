import { Duplex } from 'node:stream'
import type { StandInSocket } from '../stand-in.ts'

/** The server's side of a socket. */
export interface SocketListener {
  received (bytes: Buffer): void
  /** @param isGone the client reads nothing any more. Otherwise it only sends nothing any more. */
  closed (isGone: boolean): void
}

/** What pg connects to in place of a net.Socket: the bytes stay inside of this process. */
export class SandboxSocket extends Duplex implements StandInSocket {
  readonly #accept: (socket: SandboxSocket) => SocketListener
  #listener: SocketListener | null = null

  /** @param accept called when the client connects */
  constructor (accept: (socket: SandboxSocket) => SocketListener) {
    super()
    this.#accept = accept
  }

  another (): SandboxSocket {
    return new SandboxSocket(this.#accept)
  }

  connect (): this {
    process.nextTick(() => {
      if (this.destroyed) return
      this.#listener = this.#accept(this)
      this.emit('connect')
    })
    return this
  }

  setNoDelay (): this { return this }
  setKeepAlive (): this { return this }
  ref (): this { return this }
  unref (): this { return this }

  /** Sends bytes to the client. */
  answer (bytes: Buffer): void {
    if (!this.destroyed && !this.readableEnded) this.push(bytes)
  }

  override _read (): void {}

  override _write (bytes: Buffer, _encoding: string, done: () => void): void {
    this.#listener?.received(bytes)
    done()
  }

  override _final (done: () => void): void {
    this.#listener?.closed(false)
    this.push(null)
    done()
  }

  override _destroy (error: Error | null, done: (error: Error | null) => void): void {
    this.#listener?.closed(true)
    this.#listener = null
    done(error)
  }
}
