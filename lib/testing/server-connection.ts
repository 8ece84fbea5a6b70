import pg from 'pg'
import { ownFields } from '../own-fields.ts'
import { cancelRequest } from '../postgres/cancel.ts'
import { type CheckHost, hostsOf, onSomeHost, timeoutOfOne } from '../postgres/hosts.ts'
import { announcedRole } from '../postgres/server-role.ts'
import { errorFields, firstColumn, Frames, query, typeOf } from './frames.ts'

export interface Answer {
  /** The ErrorResponse, or null. */
  error: Buffer | null
  /** The first column of each row. */
  rows: (string | null)[]
}

/** Messages that the server sends whenever it likes: they are no part of an answer. */
const unrelated = 'NSA'

/**
 * The one connection of a sandbox to the real server. It has logged in by pg; after that, messages are read and written
 * here. One thing is asked at a time: send() and ready(), or query().
 */
export class ServerConnection {
  /** The parameters that the server announced at login, and what they are by now. */
  readonly parameters = new Map<string, string>()
  /** The status of the transaction: I, T or E. */
  status = 'I'
  /** The outer transaction is open. Its end is a loss. */
  isInTransaction = false
  /** Why it is lost, or null. */
  lost: Error | null = null
  /** Takes everything except ReadyForQuery and the answers to query(). */
  onMessage: (message: Buffer) => void = () => {}
  /** Called once. */
  onLost: () => void = () => {}
  readonly #client: pg.Client
  readonly #frames = new Frames()
  #asked: Answer | null = null
  #awaiting: { resolve: () => void, reject: (error: Error) => void } | null = null
  /** Why it is lost, as far as that is known: what the server said last. */
  #reason: string | null = null
  /** CancelRequests that may hit whatever the server runs when they arrive: nothing is written meanwhile. */
  #cancels = 0
  #unsent: Buffer[] = []

  /** @param timeout milliseconds */
  static async open (config: pg.ClientConfig, timeout: number): Promise<ServerConnection> {
    const each = timeoutOfOne(hostsOf(config), timeout)
    return await onSomeHost(config, (one, check) => ServerConnection.#open(one, each, check))
  }

  static async #open (config: pg.ClientConfig, timeout: number, check: CheckHost): Promise<ServerConnection> {
    const client = new pg.Client(ownFields<pg.ClientConfig>(config, { connectionTimeoutMillis: timeout }))
    client.on('error', () => {})
    const connection = new ServerConnection(client)
    try {
      await client.connect()
      const { parameters } = connection
      const role = announcedRole(parameters.get('in_hot_standby'), parameters.get('default_transaction_read_only'))
      await check(client, role)
    } catch (error) {
      client.connection.stream.destroy()
      throw error
    }
    connection.#takeOver()
    return connection
  }

  private constructor (client: pg.Client) {
    this.#client = client
    client.connection.on('parameterStatus', (status: { parameterName: string, parameterValue: string }) => {
      this.parameters.set(status.parameterName, status.parameterValue)
    })
  }

  #takeOver (): void {
    const { stream } = this.#client.connection
    stream.removeAllListeners('data')
    stream.on('data', (chunk: Buffer) => { for (const message of this.#frames.read(chunk)) this.#received(message) })
    stream.once('close', () => this.#lose())
  }

  /** Process id and secret key, as the server sent them. */
  get key (): { readonly processID: number, readonly secretKey: number } {
    // The types of pg omit them.
    const { processID, secretKey } = this.#client as pg.Client & { processID: number, secretKey: number }
    return { processID, secretKey }
  }

  #received (message: Buffer): void {
    const type = typeOf(message)
    if (type === 'Z') {
      this.status = String.fromCharCode(message[5]!)
      if (this.isInTransaction && this.status === 'I') this.#end('a statement has ended the outer transaction')
      const awaiting = this.#awaiting
      this.#awaiting = null
      return awaiting?.resolve()
    }
    if (type === 'E') {
      const { S: severity, V: plain = severity, M: text } = errorFields(message)
      if (plain === 'FATAL' || plain === 'PANIC') this.#reason = text!
    }
    if (this.#asked === null || unrelated.includes(type)) return this.onMessage(message)
    if (type === 'E') this.#asked.error = message
    else if (type === 'D') this.#asked.rows.push(firstColumn(message))
  }

  #end (reason: string): void {
    this.#reason = reason
    this.#client.connection.stream.destroy()
  }

  #lose (): void {
    if (this.lost !== null) return
    const reason = this.#reason === null ? '' : ` (${this.#reason})`
    this.lost = new Error(`the sandbox has lost its connection to the server${reason}, and with it all work since ` +
      'openSandbox(): rollback() begins anew, close() ends the sandbox')
    this.#awaiting?.reject(this.lost)
    this.onLost()
  }

  send (bytes: Buffer): void {
    if (this.#cancels > 0) this.#unsent.push(bytes)
    else if (this.lost === null) this.#client.connection.stream.write(bytes)
  }

  /** Resolves at the next ReadyForQuery. @throws when the connection is lost */
  ready (): Promise<void> {
    if (this.lost !== null) return Promise.reject(this.lost)
    return new Promise((resolve, reject) => { this.#awaiting = { resolve, reject } })
  }

  /** Runs statements without parameters. @throws when the connection is lost */
  async query (text: string): Promise<Answer> {
    const answer: Answer = { error: null, rows: [] }
    this.#asked = answer
    try {
      this.send(query(text))
      await this.ready()
      return answer
    } finally {
      this.#asked = null
    }
  }

  /** Cancels what the server runs. Nothing is sent before the request is harmless. */
  async cancel (): Promise<void> {
    this.#cancels++
    await cancelRequest(this.#client)
    if (--this.#cancels > 0) return
    for (const bytes of this.#unsent.splice(0)) this.send(bytes)
  }

  /** Closes the connection: the server rolls back. */
  async close (): Promise<void> {
    const { stream } = this.#client.connection
    if (stream.destroyed) return
    const closed = new Promise((resolve) => stream.once('close', resolve))
    // The server answers Terminate by closing the socket; one that does not is left behind.
    const timer = setTimeout(() => stream.destroy(), 1000)
    this.#client.end().catch(() => {})
    await closed
    clearTimeout(timer)
  }
}
