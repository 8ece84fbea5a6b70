import { setTimeout as sleep } from 'node:timers/promises'
import type { Socket } from 'node:net'
import { send } from '../http-client.ts'
import { openLoggedApp } from '../logged-app.ts'
import type { Teardown } from '../pg-proxy.ts'
import { waitFor } from '../wait-for.ts'
import type { PoolOptions } from '../../types/options.ts'

/** A request of a client, and what was answered. */
export interface Answer {
  /** The row that it inserts. */
  readonly n: number
  /** 0: no answer. */
  readonly status: number
  /** Of the error. */
  readonly code: string | undefined
  /** performance.now() when it was sent, and when it was answered. */
  readonly sent: number
  readonly answered: number
}

/** Between the answer to a client and its next request. Milliseconds. */
const thinking = 10
const clientsOfApp = 4
/** Longer than any change of the servers takes. Milliseconds. */
const acquireTimeout = 60_000

/** Two apps, one with each strategy of the pool, whose clients insert a row with each request. */
export class Load {
  readonly answers: Answer[] = []
  readonly #ending = new AbortController()
  readonly #clients: Promise<void>[] = []
  /** Inserts of each client. */
  readonly #counts: number[] = []
  #last: number

  /** @param first the number of the first row */
  static async start (t: Teardown, connectionString: string, first: number): Promise<Load> {
    const load = new Load(first)
    for (const strategy of ['queue', 'null'] satisfies PoolOptions['strategy'][]) {
      const { app, listen } = await openLoggedApp(connectionString, {
        plugin: { resolveCommits: true, pool: { strategy, max: 4, acquireTimeout } }, fastify: { logger: false }
      })
      t.teardown(() => app.close())
      app.post<{ Params: { n: string } }>('/:n', async (request, reply) => {
        await request.db.query('INSERT INTO item VALUES ($1)', [request.params.n])
        return reply.code(201).send()
      })
      const port = await listen()
      for (let i = 0; i < clientsOfApp; i++) load.#clients.push(load.#client(port, load.#clients.length))
    }
    return load
  }

  private constructor (first: number) {
    this.#last = first
  }

  /** Rows whose client read a success. */
  get acknowledged (): number[] {
    return this.answers.filter(({ status }) => status === 201).map(({ n }) => n)
  }

  get failed (): Answer[] {
    return this.answers.filter(({ status }) => status !== 201)
  }

  /** Resolves when each client has had some more successes. */
  async progress (): Promise<void> {
    const before = [...this.#counts]
    const isServed = (): boolean => this.#clients.every((_, i) => (this.#counts[i] ?? 0) > (before[i] ?? 0) + 3)
    await waitFor(isServed, { timeout: 60_000, message: 'every client is served' })
  }

  async end (): Promise<void> {
    this.#ending.abort()
    await Promise.all(this.#clients)
  }

  async #client (port: number, index: number): Promise<void> {
    let socket: Socket | undefined
    while (!this.#ending.signal.aborted) {
      const n = ++this.#last
      const sent = performance.now()
      const request = { method: 'POST', path: `/${n}`, keepAlive: true, ...(socket?.destroyed === false && { socket }) }
      const { status, body, socket: used } = await send(port, request)
      socket = used
      const code = /"code":"(\w+)"/.exec(body)?.[1]
      this.answers.push({ n, status, code, sent, answered: performance.now() })
      if (status === 201) this.#counts[index] = (this.#counts[index] ?? 0) + 1
      await sleep(thinking)
    }
    socket?.destroy()
  }
}
