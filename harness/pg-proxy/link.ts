import { Socket } from 'node:net'
import { closeQuietly, reset } from './closing.ts'
import { Exchange } from './exchange.ts'
import { Framer } from './framer.ts'
import { Pipe } from './pipe.ts'
import { Statements } from './statements.ts'
import { Tally } from './tally.ts'
import type { Ask } from './exchange.ts'
import type { Frame } from './framer.ts'
import type { Network } from './pipe.ts'
import type { CutOptions, TearOptions, Trap } from './trap.ts'

export interface LinkContext {
  network: Network
  total: Tally
  traps: Trap[]
  upstream: { host: string, port: number }
  /** How much longer a CancelRequest is on its way. Milliseconds. */
  cancelDelay: () => number
}

const cancelRequest = 80877102
const encryptionRequests = [80877103, 80877104]

/** One client's connection and the one to the server that stands behind it. */
export class Link {
  readonly id: number
  readonly tally = new Tally()
  readonly #context: LinkContext
  readonly #client: Socket
  readonly #server = new Socket({ allowHalfOpen: true })
  readonly #up: Pipe
  readonly #down: Pipe
  readonly #fromClient = new Framer('untyped', 'PQBE')
  readonly #fromServer = new Framer('typed', '')
  readonly #exchange = new Exchange()
  readonly #statements = new Statements()
  #phase: 'starting' | 'ready' | 'cancelling' | 'left' = 'starting'
  #delivered = 0
  #doom: { trap: Trap, ask: Ask, answer: 'awaited' | 'swallowed' } | null = null
  #reads: 'both' | 'server' | 'neither' = 'both'
  #tear: TearOptions | null = null

  constructor (id: number, client: Socket, context: LinkContext, onClose: (link: Link) => void) {
    this.id = id
    this.#client = client
    this.#context = context
    const silence = () => this.#silence()
    this.#up = new Pipe(context.network, client, this.#server, silence)
    this.#down = new Pipe(context.network, this.#server, client, silence)
    this.#up.push(() => this.#server.connect({ ...context.upstream, noDelay: true }))
    this.#wire(client, this.#up, this.#server, chunk => this.#onClientData(chunk))
    this.#wire(this.#server, this.#down, client, chunk => this.#onServerData(chunk))
    client.on('end', () => this.#onClientLeave())
    client.on('error', () => this.#onClientLeave())
    const closed = () => { if (client.closed && this.#server.closed) onClose(this) }
    client.on('close', closed)
    this.#server.on('close', closed)
  }

  drain (): void {
    this.#up.drain()
    this.#down.drain()
  }

  cut (options: CutOptions = {}): void {
    this.#silence()
    if (options.reset) reset(this.#client)
    else closeQuietly(this.#client)
    closeQuietly(this.#server)
  }

  tear (options: TearOptions): void {
    this.#tear = options
  }

  destroy (): void {
    this.#silence()
    this.#client.destroy()
    this.#server.destroy()
  }

  #silence (): void {
    this.#reads = 'neither'
    this.#up.silence()
    this.#down.silence()
  }

  #wire (source: Socket, pipe: Pipe, target: Socket, onData: (chunk: Buffer) => void): void {
    source.on('data', onData)
    source.on('end', () => pipe.push(() => { target.end() }))
    source.on('error', (error: NodeJS.ErrnoException) => pipe.push(() => {
      if (error.code === 'ECONNRESET') reset(target)
      else target.destroy()
    }))
  }

  #count (change: (tally: Tally) => void): void {
    change(this.tally)
    change(this.#context.total)
  }

  #onClientLeave (): void {
    if (this.#phase === 'cancelling' && !this.#client.writableEnded) this.#count(tally => tally.cancelsClosedEarly++)
    this.#phase = 'left'
  }

  #onClientData (chunk: Buffer): void {
    if (this.#reads !== 'both') return
    this.#count(tally => { tally.bytes.fromClient += chunk.length })
    const idle = this.#exchange.demanded === this.#delivered
    const demanded = this.#exchange.demanded
    for (const frame of this.#fromClient.read(chunk)) {
      const trap = frame.type === '' ? this.#onStartup(frame.body) : this.#onRequest(frame)
      if (!trap) continue
      this.#reads = 'server'
      if (frame.start > 0) this.#up.write(chunk.subarray(0, frame.start))
      this.#up.push(() => this.#spring(trap))
      return
    }
    if (idle && this.#exchange.demanded > demanded) this.#count(tally => tally.roundTrips++)
    this.#pass(this.#up, chunk)
  }

  #onStartup (body: Buffer): undefined {
    const code = body.length >= 4 ? body.readInt32BE(0) : 0
    if (encryptionRequests.includes(code)) {
      this.#fromServer.framing = 'byte'
    } else if (code === cancelRequest) {
      this.#phase = 'cancelling'
      this.#count(tally => tally.cancels++)
      this.#up.slow(this.#context.cancelDelay())
    } else {
      this.#fromClient.framing = 'typed'
      this.#count(tally => tally.connections++)
    }
  }

  /** Returns the trap which wants the connection cut before this message. */
  #onRequest ({ type, body }: Frame): Trap | undefined {
    const ask = this.#exchange.ask(type)
    if (type === 'D') this.#count(tally => tally.describes++)
    const statement = this.#statementOf(type, body)
    if (statement === undefined || this.#doom) return
    const trap = this.#context.traps.find(trap => trap.catches(statement, this.id))
    if (!trap?.after) return trap
    this.#doom = { trap, ask, answer: 'awaited' }
  }

  /** The text which traps are shown: an Execute is no news after its Parse or Bind. */
  #statementOf (type: string, body: Buffer): string | undefined {
    const seen = this.#statements.see(type, body)
    if (seen === undefined) return
    const { text, how } = seen
    this.#count(tally => {
      if (how === 'parsed' || how === 'queried') tally.statements.push(text)
      if (how === 'executed' || how === 'queried') tally.executed.push(text)
    })
    return how === 'executed' ? undefined : text
  }

  #onServerData (chunk: Buffer): void {
    if (this.#reads === 'neither') return
    this.#count(tally => { tally.bytes.fromServer += chunk.length })
    let passed = this.#doom?.answer === 'swallowed' ? 0 : chunk.length
    for (const frame of this.#fromServer.read(chunk)) {
      if (this.#fromServer.framing === 'byte') {
        this.#onEncryptionAnswer(frame.type)
        continue
      }
      const first = this.#doom !== null && this.#exchange.head === this.#doom.ask
      const ready = this.#exchange.answer(frame.type)
      if (ready) this.#onReady()
      if (this.#doom === null || (this.#exchange.awaits(this.#doom.ask) && !first)) continue
      if (this.#doom.answer === 'awaited') passed = first ? frame.start : frame.end
      this.#doom.answer = 'swallowed'
      if (!ready && this.#exchange.head !== undefined) continue
      const { trap } = this.#doom
      this.#down.write(chunk.subarray(0, passed))
      this.#down.push(() => this.#spring(trap))
      return
    }
    const { answered } = this.#exchange
    if (passed > 0) this.#pass(this.#down, chunk.subarray(0, passed), () => { this.#delivered = answered })
  }

  /** Passes bytes on: all at once, or in two parts. */
  #pass (pipe: Pipe, chunk: Buffer, onDelivery?: () => void): void {
    const tear = this.#tear
    if (tear === null || chunk.length < 2 || pipe !== (tear.from === 'server' ? this.#down : this.#up)) {
      return pipe.write(chunk, onDelivery)
    }
    this.#tear = null
    const half = chunk.length >> 1
    pipe.write(chunk.subarray(0, half))
    if (tear.stall === undefined) return pipe.push(() => this.cut())
    pipe.slow(tear.stall)
    pipe.write(chunk.subarray(half), onDelivery)
    pipe.slow(0)
  }

  #onEncryptionAnswer (answer: string): void {
    const framing = answer === 'N' ? 'typed' : 'opaque'
    this.#fromServer.framing = framing
    if (framing === 'opaque') this.#fromClient.framing = framing
  }

  #onReady (): void {
    if (this.#phase === 'starting') this.#phase = 'ready'
    else this.#count(tally => tally.syncs++)
  }

  #spring (trap: Trap): void {
    this.cut(trap)
    trap.spring()
  }
}
