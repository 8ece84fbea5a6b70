import { setTimeout as sleep } from 'node:timers/promises'
import { ClientTransaction } from './client-transaction.ts'
import { message, query, stringsOf, sync, typeOf } from './frames.ts'
import type { OuterTransaction } from './outer-transaction.ts'
import type { SandboxSocket } from './sandbox-socket.ts'
import type { ServerConnection } from './server-connection.ts'
import { type Control, controlledStatements, controlOf } from './transaction-control.ts'

/** Between two CancelRequests for a statement whose client has gone. Milliseconds. */
const cancelInterval = 50

/** Data of COPY … FROM STDIN: it belongs to the statement that runs. */
const copyTypes = 'dcf'
/** While it expects that data, the server ignores a Sync that was sent with the statement. */
const whileCopying = 'dcfSH'

/** One answer of its own, in place of the server's. */
const parseComplete = message('1')
const bindComplete = message('2')
const closeComplete = message('3')
const noParameters = message('t', Buffer.from([0, 0]))
const noData = message('n')

/**
 * One client of the sandbox, from its login to its end: it believes that the server is its own. Its messages pass as
 * they are, except for transaction control, which is done by the outer transaction and answered here.
 *
 *     messages ─► ClientSession ─► ServerConnection        everything else
 *                      └─► ClientTransaction ─► OuterTransaction     BEGIN, COMMIT, the end of a batch, …
 *
 * Batches are served one after another: the status of the server is known before each.
 */
export class ClientSession {
  readonly #socket: SandboxSocket
  #server!: ServerConnection
  #transaction!: ClientTransaction
  /** Messages that were received and not handled yet. */
  readonly #received: Buffer[] = []
  #wake: (() => void) | null = null
  #isClosed = false
  /** Messages were sent after the last ReadyForQuery. */
  #isUnready = false
  /** It waits for ReadyForQuery. */
  #isRunning = false
  #isCopying = false
  /** The batch has failed: the rest of it up to Sync is skipped. */
  #hasFailed = false
  /** Prepared statements and portals that the server does not know: they are controls. */
  readonly #statements = new Map<string, Control>()
  readonly #portals = new Map<string, Control>()

  constructor (socket: SandboxSocket) {
    this.#socket = socket
  }

  /** It has no transaction open, and nothing to do. */
  get isIdle (): boolean {
    return this.#wake !== null && !this.#transaction.isBegun && !this.#isUnready
  }

  /** @param bytes a whole message */
  receive (bytes: Buffer): void {
    const isData = this.#isCopying && whileCopying.includes(typeOf(bytes))
    if (isData && this.#received.length === 0) return this.#server.send(bytes)
    this.#received.push(bytes)
    this.#wake?.()
  }

  /** @param isGone it does not read answers any more. Otherwise it has sent everything. */
  close (isGone: boolean): void {
    this.#isClosed = true
    if (isGone) this.#received.length = 0
    this.#wake?.()
    if (isGone && this.#isRunning) this.#stop()
  }

  /** The statement that runs for a client that has gone ends, so that another client can be served. */
  async #stop (): Promise<void> {
    while (this.#isRunning && this.#server.lost === null) {
      if (this.#isCopying) for (const bytes of [message('f', '\0'), sync]) this.#server.send(bytes)
      await this.#server.cancel()
      await sleep(cancelInterval)
    }
  }

  /** Cancels what runs for the client. */
  async cancel (): Promise<void> {
    if (this.#isRunning) await this.#server.cancel()
  }

  /**
   * Serves the client until it has gone. Then the server is as if it had never been there, except for what was
   * committed.
   *
   * @param pause what a new transaction has to wait for, or null
   * @throws when the server is lost
   */
  async serve (outer: OuterTransaction, pause: () => Promise<void> | null): Promise<void> {
    this.#server = outer.server
    this.#transaction = new ClientTransaction(outer)
    if (outer.server.lost !== null) throw outer.server.lost
    await pause()
    this.#server.onMessage = (message) => this.#answered(message)
    this.#login()
    for (;;) {
      const bytes = await this.#next()
      if (bytes === null) break
      if (!this.#transaction.isBegun && !this.#isUnready) await pause()
      await this.#handle(bytes)
    }
    if (this.#isUnready) await this.#synchronize()
    await this.#transaction.leave()
    this.#server.onMessage = () => {}
  }

  #login (): void {
    const { key: { processID, secretKey }, parameters } = this.#server
    const key = Buffer.alloc(8)
    key.writeInt32BE(processID)
    key.writeInt32BE(secretKey, 4)
    this.#socket.answer(message('R', Buffer.alloc(4)))
    for (const [name, value] of parameters) this.#socket.answer(message('S', `${name}\0${value}\0`))
    this.#socket.answer(message('K', key))
    this.#socket.answer(message('Z', 'I'))
  }

  async #next (): Promise<Buffer | null> {
    while (this.#received.length === 0 && !this.#isClosed) {
      await new Promise<void>((resolve) => { this.#wake = resolve })
      this.#wake = null
    }
    return this.#received.shift() ?? null
  }

  /** A message of the server that belongs to what the client has sent. */
  #answered (bytes: Buffer): void {
    const type = typeOf(bytes)
    if (type === 'E') this.#hasFailed = true
    if (type === 'G') this.#isCopying = true
    this.#socket.answer(bytes)
  }

  async #handle (bytes: Buffer): Promise<void> {
    const type = typeOf(bytes)
    if (type === 'Q') return await this.#simple(bytes)
    if (type === 'S') return await this.#endOfBatch()
    if (type === 'X') this.#isClosed = true
    else if (copyTypes.includes(type)) this.#server.send(bytes)
    else if (!this.#hasFailed && !await this.#ofControl(type, bytes)) this.#forward(bytes)
  }

  #forward (bytes: Buffer): void {
    this.#isUnready = true
    this.#transaction.sent()
    this.#server.send(bytes)
  }

  /** Waits for everything that was sent. */
  async #synchronize (end: Buffer = sync): Promise<void> {
    this.#isUnready = true
    this.#server.send(end)
    this.#isRunning = true
    try {
      await this.#server.ready()
    } finally {
      this.#isRunning = this.#isUnready = this.#isCopying = false
    }
  }

  /** A text in the simple protocol: it may hold several statements. */
  async #simple (bytes: Buffer): Promise<void> {
    const whole = stringsOf(bytes, 1)[0]!
    this.#transaction.read(whole)
    const statements = controlledStatements(whole)
    if (statements === null) await this.#run(bytes)
    else {
      for (const { text, control } of statements) {
        if (control === null) await this.#run(query(text))
        else await this.#control(control)
        if (this.#hasFailed) break
      }
    }
    await this.#finish()
  }

  async #run (bytes: Buffer): Promise<void> {
    this.#transaction.sent()
    await this.#synchronize(bytes)
  }

  /**
   * A message of the extended protocol about a statement that the server must not see. Its answer has to follow those
   * to the messages before it.
   *
   * @returns false for any other statement
   */
  async #ofControl (type: string, bytes: Buffer): Promise<boolean> {
    if (type === 'P') {
      const [name, text] = stringsOf(bytes, 2)
      const control = controlOf(text!)
      this.#transaction.read(text!)
      if (control === null) this.#statements.delete(name!)
      else this.#statements.set(name!, control)
      return control !== null && await this.#answer(parseComplete)
    }
    if (type === 'B') {
      const [portal, name] = stringsOf(bytes, 2)
      const control = this.#statements.get(name!)
      if (control === undefined) this.#portals.delete(portal!)
      else this.#portals.set(portal!, control)
      return control !== undefined && await this.#answer(bindComplete)
    }
    if (type === 'E') {
      const control = this.#portals.get(stringsOf(bytes, 1)[0]!)
      if (control === undefined) return false
      if (this.#isUnready) await this.#synchronize()
      if (!this.#hasFailed) await this.#control(control)
      return true
    }
    if (type !== 'D' && type !== 'C') return false
    const isStatement = bytes[5] === 0x53 // S
    const known = isStatement ? this.#statements : this.#portals
    const name = stringsOf(bytes, 1, 6)[0]!
    if (!known.has(name)) return false
    if (type === 'D') return await this.#answer(isStatement ? Buffer.concat([noParameters, noData]) : noData)
    known.delete(name)
    return await this.#answer(closeComplete)
  }

  async #answer (bytes: Buffer): Promise<true> {
    if (this.#isUnready) await this.#synchronize()
    if (!this.#hasFailed) this.#socket.answer(bytes)
    return true
  }

  /** Does what the statement asks for, and answers it. */
  async #control (control: Control): Promise<void> {
    const result = await this.#transaction.control(control)
    if (typeof result === 'string') this.#socket.answer(message('C', `${result}\0`))
    else this.#answered(result)
  }

  async #endOfBatch (): Promise<void> {
    if (this.#isUnready) await this.#synchronize()
    await this.#finish()
  }

  /** Says that the client may go on. */
  async #finish (): Promise<void> {
    const error = await this.#transaction.endOfBatch(this.#hasFailed)
    if (error !== null) this.#socket.answer(error)
    this.#hasFailed = false
    this.#socket.answer(message('Z', this.#transaction.status))
  }
}
