import type { Socket } from 'node:net'
import { hangUp, send } from '../http-client.ts'
import type { Ledger } from './ledger.ts'
import { kindOf, requestOf } from './mix.ts'

/**
 * Clients that share a row of requests: each sends the next one on its own keep-alive socket when its last has ended.
 */
export class Clients {
  readonly #port: number
  readonly #ledger: Ledger
  readonly #sockets: (Socket | undefined)[]
  #next = 0

  constructor (port: number, count: number, ledger: Ledger) {
    this.#port = port
    this.#ledger = ledger
    this.#sockets = new Array(count).fill(undefined)
  }

  /** Sends requests up to this number, and waits for their ends. */
  async sendUpTo (end: number): Promise<void> {
    await Promise.all(this.#sockets.map(async (_, client) => {
      while (this.#next < end) await this.#send(this.#next++, client)
    }))
  }

  close (): void {
    for (const socket of this.#sockets) socket?.destroy()
  }

  async #send (n: number, client: number): Promise<void> {
    const kind = kindOf(n)
    const request = requestOf(kind, n)
    if (kind.hangUp !== undefined) {
      const { status, complete } = await hangUp(this.#port, request, kind.hangUp)
      // An answer can be quicker than the hang-up, and is then as good as any.
      if (complete && status < 400) this.#ledger.acknowledge(n)
      else if (status >= 400) this.#ledger.surprise(`${kind.name}: ${status}`)
      else this.#ledger.leave(n)
      return
    }
    const open = this.#sockets[client]
    const response = await send(this.#port, {
      ...request, keepAlive: true, ...(open?.destroyed === false && { socket: open })
    })
    this.#sockets[client] = response.socket
    const { status, complete } = response
    if (status !== kind.status || !complete) this.#ledger.surprise(`${kind.name}: ${status}${complete ? '' : ', broken off'} ${response.body.slice(0, 100)}`)
    if (status === 0 || !complete) this.#ledger.leave(n)
    else if (status < 400 && kind.writes) this.#ledger.acknowledge(n)
    else this.#ledger.refuse(n)
  }
}
