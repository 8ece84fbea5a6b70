import type { Socket } from 'node:net'
import pg from 'pg'
import { ownFields } from '../../own-fields.ts'
import { letExit } from '../../process-exit.ts'
import { askState, type ReplicaState } from './replica-state.ts'

/** How long a replica may take to connect and to answer. Milliseconds. */
const timeout = 2000

/** The longest delay before a replica that is not used is checked again; each check doubles it. Milliseconds. */
const firstDelay = 200

/** No such delay is longer. Milliseconds. */
const longestDelay = 10000

/** What checks are for. */
export interface Monitored {
  /** It has answered. @returns whether it can be used */
  answered (state: ReplicaState): boolean
  /** It cannot be reached. */
  unreachable (error: unknown): void
  /** Called on each new connection. */
  connected (): Promise<void>
}

/**
 * Checks one replica again and again, on a connection of its own: when it can be used, at a fixed interval, otherwise
 * with delays that grow and vary, so that many processes do not ask at once. No request waits for a check.
 *
 *     check ─► usable: after `interval`
 *       ▲  └─► not usable, or its connection ended: after 200 ms, 400 ms, … 10 s, less up to a half
 *       └────── suspect(): at once
 */
export class ReplicaMonitor {
  readonly #config: pg.ClientConfig
  readonly #replica: Monitored
  readonly #interval: number
  #client: pg.Client | null = null
  #timer: NodeJS.Timeout | undefined
  /** The check in progress, or null. */
  #checking: Promise<void> | null = null
  /** Checks in a row after which it could not be used. */
  #failures = 0
  #isClosed = false

  /** @param interval milliseconds */
  constructor (config: pg.ClientConfig, replica: Monitored, interval: number) {
    this.#config = ownFields<pg.ClientConfig>(config, { connectionTimeoutMillis: timeout, query_timeout: timeout })
    this.#replica = replica
    this.#interval = interval
  }

  /** Checks now, unless a check is in progress. Resolves after it. */
  check (): Promise<void> {
    clearTimeout(this.#timer)
    this.#checking ??= this.#check().then((isUsable) => {
      this.#checking = null
      this.#failures = isUsable ? 0 : this.#failures + 1
      this.#schedule()
    })
    return this.#checking
  }

  /** A request could not use it. If it is not used already, its next check is soon enough. */
  suspect (): void {
    if (!this.#isClosed && this.#failures === 0) this.check()
  }

  async #check (): Promise<boolean> {
    try {
      this.#client ??= await this.#connect()
      return this.#replica.answered(await askState(this.#client))
    } catch (error) {
      this.#drop()
      if (!this.#isClosed) this.#replica.unreachable(error)
      return false
    }
  }

  async #connect (): Promise<pg.Client> {
    const client = new pg.Client(this.#config)
    client.on('error', () => {})
    try {
      await client.connect()
      await this.#replica.connected()
      if (this.#isClosed) throw new Error('the replica was closed')
    } catch (error) {
      client.connection.stream.destroy()
      throw error
    }
    client.once('end', () => this.#ended(client))
    letExit(client.connection.stream as Socket)
    return client
  }

  #ended (client: pg.Client): void {
    if (this.#client !== client) return
    this.#client = null
    if (this.#isClosed || this.#checking !== null) return
    this.#replica.unreachable(new Error('its connection was closed'))
    this.#failures++
    this.#schedule()
  }

  #schedule (): void {
    clearTimeout(this.#timer)
    if (this.#isClosed) return
    const delay = this.#failures === 0
      ? this.#interval
      : Math.min(firstDelay * 2 ** (this.#failures - 1), longestDelay) * (1 - Math.random() / 2)
    this.#timer = setTimeout(() => this.check(), delay)
    letExit(this.#timer)
  }

  #drop (): void {
    const client = this.#client
    this.#client = null
    client?.connection.stream.destroy()
  }

  close (): void {
    this.#isClosed = true
    clearTimeout(this.#timer)
    if (this.#checking !== null) return this.#drop()
    const client = this.#client
    this.#client = null
    client?.end().catch(() => {})
  }
}
