import type pg from 'pg'
import type { StandIn } from '../stand-in.ts'
import { pgScopeError } from '../errors.ts'
import { ClientSession } from './client-session.ts'
import { Frames } from './frames.ts'
import { OuterTransaction } from './outer-transaction.ts'
import { SandboxSocket, type SocketListener } from './sandbox-socket.ts'
import { ServerConnection } from './server-connection.ts'

/** In place of a protocol version in the first packet (https://www.postgresql.org/docs/current/protocol-flow.html). */
const cancelCode = 80877102

/**
 * What the pool of a sandbox connects to in place of PostgreSQL. Its clients are served one after another, in one
 * transaction on one connection to the real server.
 *
 *     pg.Client ── SandboxSocket ── ClientSession ── OuterTransaction ── ServerConnection ──► PostgreSQL
 */
export class StandInServer implements StandIn {
  readonly #config: pg.ClientConfig
  readonly #timeout: number
  #outer: OuterTransaction
  /** The client that is served. */
  #session: ClientSession | null = null
  readonly #sockets = new Set<SandboxSocket>()
  /** The last of those that are served one after another: clients, restarts and the end. */
  #turn: Promise<unknown> = Promise.resolve()
  /** A restart in progress: the client waits. */
  #restarting: Promise<void> | null = null
  #closed: Promise<void> | null = null

  /** @param timeout how long a connection, and how long a restart may take to begin. Milliseconds. */
  static async open (config: pg.ClientConfig, timeout: number): Promise<StandInServer> {
    return new StandInServer(config, timeout, await begin(config, timeout))
  }

  private constructor (config: pg.ClientConfig, timeout: number, outer: OuterTransaction) {
    this.#config = config
    this.#timeout = timeout
    this.#outer = outer
    this.#watch()
  }

  #watch (): void {
    const { server } = this.#outer
    server.onLost = () => { for (const socket of this.#sockets) socket.destroy(server.lost!) }
  }

  socket (): SandboxSocket {
    return new SandboxSocket((socket) => this.#accept(socket))
  }

  #accept (socket: SandboxSocket): SocketListener {
    const frames = new Frames()
    let first: Buffer | null = Buffer.alloc(0)
    let session: ClientSession | null = null
    this.#sockets.add(socket)
    return {
      received: (bytes) => {
        let rest = bytes
        if (first !== null) {
          first = Buffer.concat([first, bytes])
          if (first.length < 8 || first.length < first.readUInt32BE()) return
          if (first.readUInt32BE(4) === cancelCode) return this.#cancel(socket, first)
          rest = first.subarray(first.readUInt32BE())
          first = null
          session = new ClientSession(socket)
          this.#serve(session, socket)
        }
        for (const message of frames.read(rest)) session!.receive(message)
      },
      closed: (isGone) => {
        if (isGone) this.#sockets.delete(socket)
        session?.close(isGone)
      }
    }
  }

  #serve (session: ClientSession, socket: SandboxSocket): void {
    this.#turn = this.#turn.then(async () => {
      this.#session = session
      try {
        await session.serve(this.#outer, () => this.#restarting)
      } catch (error) {
        socket.destroy(error as Error)
      }
      this.#session = null
    })
  }

  /** The request concerns the client that is served: it has the only key. */
  async #cancel (socket: SandboxSocket, packet: Buffer): Promise<void> {
    const { processID, secretKey } = this.#outer.server.key
    if (packet.readInt32BE(8) === processID && packet.readInt32BE(12) === secretKey) await this.#session?.cancel()
    socket.end()
    socket.destroy()
  }

  /**
   * Undoes everything since the start or the last restart.
   *
   * @throws FST_PG_SCOPE_TESTING while a session has its transaction open, or without a connection
   */
  async restart (): Promise<void> {
    if (this.#closed !== null) throw testingError('rollback() was called after close(): open another sandbox.')
    await this.#untilIdle()
    this.#restarting = this.#restart().finally(() => { this.#restarting = null })
    await this.#restarting
  }

  async #restart (): Promise<void> {
    try {
      if (this.#outer.server.lost === null) return await this.#outer.restart()
      this.#outer = await begin(this.#config, this.#timeout)
      this.#watch()
    } catch (error) {
      throw testingError(`rollback() could not begin anew: ${(error as Error).message}.`, error)
    }
  }

  async #untilIdle (): Promise<void> {
    const deadline = performance.now() + this.#timeout
    while (this.#restarting !== null || this.#session?.isIdle === false) {
      if (performance.now() > deadline) {
        throw testingError('rollback() was called while a session has its transaction open, which did not end within ' +
          `${this.#timeout} ms (\`pool.acquireTimeout\`): await your requests, scopes and sessions before.`)
      }
      await (this.#restarting ?? new Promise((resolve) => setTimeout(resolve, 5)))
    }
  }

  close (): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #close (): Promise<void> {
    await this.#restarting?.catch(() => {})
    for (const socket of this.#sockets) socket.destroy()
    await this.#turn
    await this.#outer.server.close()
  }
}

async function begin (config: pg.ClientConfig, timeout: number): Promise<OuterTransaction> {
  const server = await ServerConnection.open(config, timeout)
  const outer = new OuterTransaction(server)
  try {
    await outer.begin()
  } catch (error) {
    await server.close()
    throw error
  }
  return outer
}

function testingError (details: string, cause?: unknown): Error {
  return pgScopeError('FST_PG_SCOPE_TESTING', details, cause)
}
