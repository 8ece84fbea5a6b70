import type { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { type HttpRequest, openRequest } from '../http-client.ts'
import { isUnknown } from '../reliability/books.ts'

export type Kind = 'plain' | 'retrying' | 'idempotent' | 'statement-timeout' | 'handler-timeout'

/** What is known of one transfer: the client's journal has one entry for each. */
export interface Entry {
  id: string
  kind: Kind
  /** Of the last answer. 0: none, or no whole one. */
  status: number
  /** The code of its error. */
  code: string | undefined
  /** When it was answered, in seconds from the start. */
  at: number
}

interface Answer {
  status: number
  code: string | undefined
}

export const accounts = 20
const count = 10
/** Milliseconds. */
const thinking = 15
/** A client whose request is not answered for this long leaves. No limit of the app is as long. Milliseconds. */
const patience = 60_000

/** Clients that transfer, read and hang up, and note what they have sent and what was answered. */
export class Clients {
  readonly journal: Entry[] = []
  /** Requests by what was answered: a status, with the code of an error, or nothing. */
  readonly answers = new Map<string, number>()
  requests = 0
  /** Answers with COMMIT_UNKNOWN. */
  unknown = 0
  /** Requests without any answer within `patience`. */
  stuck = 0
  readonly #port: number
  readonly #random: () => number
  readonly #began = performance.now()
  #state: 'running' | 'ending' | 'over' = 'running'
  #working: Promise<unknown>[] = []

  constructor (port: number, random: () => number) {
    this.#port = port
    this.#random = random
  }

  start (): void {
    this.#working = Array.from({ length: count }, () => this.#client())
  }

  /** Sends no further request, except that idempotent ones are repeated until they are answered. */
  async stop (): Promise<void> {
    this.#state = 'ending'
    const timer = setTimeout(() => { this.#state = 'over' }, patience)
    await Promise.all(this.#working)
    clearTimeout(timer)
  }

  async #client (): Promise<void> {
    const connection: { socket?: Socket } = {}
    while (this.#state === 'running') {
      const chance = this.#random()
      if (chance < 0.15) await this.#ask(connection, { path: '/accounts' })
      else if (chance < 0.25) await this.#ask(connection, { path: '/rows' })
      else if (chance < 0.5) await this.#transfer(connection, 'plain')
      else if (chance < 0.7) await this.#transfer(connection, 'retrying')
      else if (chance < 0.95) await this.#transfer(connection, 'idempotent')
      else await this.#transfer(connection, chance < 0.975 ? 'statement-timeout' : 'handler-timeout')
      await sleep(thinking)
    }
    connection.socket?.destroy()
  }

  /** An idempotent one is repeated until it is saved. */
  async #transfer (connection: { socket?: Socket }, kind: Kind): Promise<void> {
    const id = String(this.journal.length)
    const entry: Entry = { id, kind, status: 0, code: undefined, at: 0 }
    this.journal.push(entry)
    const from = 1 + Math.floor(this.#random() * accounts)
    const to = 1 + (from + Math.floor(this.#random() * (accounts - 1))) % accounts
    const request: HttpRequest = kind === 'handler-timeout'
      ? { path: `/${kind}/${id}?from=${from}&to=${to}` }
      : { path: `/${kind}/${id}`, body: { from, to }, headers: kind === 'idempotent' ? { 'idempotency-key': id } : {} }
    do {
      const leaves = this.#random() < 0.05 ? Math.floor(this.#random() * 12) : null
      const { status, code } = await this.#ask(connection, request, leaves)
      Object.assign(entry, { status, code, at: Math.round((performance.now() - this.#began) / 100) / 10 })
      if (kind !== 'idempotent' || (status > 0 && status < 400)) return
      await sleep(50)
    } while (this.#state !== 'over')
  }

  /** @param leaves the client hangs up after so many milliseconds; null: it waits for the answer */
  async #ask (connection: { socket?: Socket }, request: HttpRequest, leaves: number | null = null): Promise<Answer> {
    const { socket: kept } = connection
    const { socket, response } = openRequest(this.#port, {
      ...request, keepAlive: true, ...(kept?.destroyed === false && { socket: kept })
    })
    connection.socket = socket
    const timer = setTimeout(() => {
      if (leaves === null) this.stuck++
      socket.resetAndDestroy()
    }, leaves ?? patience)
    const { status, complete, body } = await response
    clearTimeout(timer)
    if (!complete) socket.destroy()
    const answer = complete ? { status, code: /"code":"(\w+)"/.exec(body)?.[1] } : { status: 0, code: undefined }
    this.requests++
    if (answer.status > 0 && isUnknown(answer)) this.unknown++
    const known = [status, answer.code?.replace('FST_PG_SCOPE_', '')].filter(Boolean).join(' ')
    const seen = answer.status > 0 ? known : leaves === null ? 'no answer' : 'hung up'
    this.answers.set(seen, (this.answers.get(seen) ?? 0) + 1)
    // Nothing listens: the app is being started.
    if (answer.status === 0 && leaves === null) await sleep(100)
    return answer
  }
}
