import type { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { openRequest } from '../http-client.ts'

/** One request as its client saw it. */
export interface Answer {
  kind: 'read' | 'transfer'
  id: string
  /** performance.now() */
  sent: number
  ended: number
  /** 0: no answer, or a broken one. */
  status: number
  /** The error's code, in an answer that has one. */
  code: string | undefined
}

/**
 * Clients at a time, and how long each thinks before it asks again: some 300 requests a second when nothing is wrong.
 */
export const clients = 10
const thinking = 25
/** A client that waits longer than this leaves; no limit of the app is as long. Milliseconds. */
const patience = 12_000

/** Clients that read and transfer in turn, each on a keep-alive socket of its own. */
export class Load {
  readonly answers: Answer[] = []
  /** Requests whose client left without an answer. */
  stuck = 0
  readonly #port: number
  readonly #working: Promise<unknown>[] = []
  #state: 'running' | 'held' | 'over' = 'running'
  #underWay = 0
  #last = 0
  #watchers: (() => void)[] = []

  constructor (port: number) {
    this.#port = port
  }

  start (): void {
    for (let client = 0; client < clients; client++) this.#working.push(this.#client(client))
  }

  /** Nobody asks any more; resolves when everybody has an answer. */
  async hold (): Promise<void> {
    this.#state = 'held'
    while (this.#underWay > 0) await this.#change()
  }

  resume (): void {
    this.#state = 'running'
    this.#changed()
  }

  /** Resolves when every client has its last answer. */
  async stop (): Promise<void> {
    this.#state = 'over'
    this.#changed()
    await Promise.all(this.#working)
  }

  async #client (client: number): Promise<void> {
    let socket: Socket | undefined
    await sleep(thinking * client / clients)
    for (let n = client; this.#state !== 'over'; n++) {
      if (this.#state === 'held') {
        await this.#change()
        continue
      }
      this.#underWay++
      socket = await this.#ask(n % 2 === 0 ? 'read' : 'transfer', socket)
      this.#underWay--
      this.#changed()
      await sleep(thinking)
    }
    socket?.destroy()
  }

  async #ask (kind: Answer['kind'], open: Socket | undefined): Promise<Socket | undefined> {
    const id = String(++this.#last)
    const sent = performance.now()
    const { socket, response } = openRequest(this.#port, {
      method: kind === 'read' ? 'GET' : 'POST',
      path: kind === 'read' ? '/entries' : `/transfers/${id}`,
      keepAlive: true,
      ...(open?.destroyed === false && { socket: open })
    })
    const leave = setTimeout(() => {
      this.stuck++
      socket.destroy()
    }, patience)
    const { status, complete, body } = await response
    clearTimeout(leave)
    this.answers.push({
      kind,
      id,
      sent,
      ended: performance.now(),
      status: complete ? status : 0,
      code: status >= 400 ? codeOf(body) : undefined
    })
    return complete ? socket : undefined
  }

  #change (): Promise<void> {
    return new Promise((resolve) => this.#watchers.push(resolve))
  }

  #changed (): void {
    for (const watcher of this.#watchers.splice(0)) watcher()
  }
}

function codeOf (body: string): string | undefined {
  try {
    return JSON.parse(body).code
  } catch {
    return undefined
  }
}
