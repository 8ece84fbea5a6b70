import { Agent, createServer, request as httpRequest } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import Fastify, { type FastifyInstance, type FastifyRequest } from 'fastify'
import pgScope, { type PoolOptions } from '../lib/index.ts'
import { openRequest, send } from './http-client.ts'
import { openHttp2Request } from './http2-client.ts'
import { waitFor } from './wait-for.ts'

export interface CancelOptions {
  connectionString: string
  strategy: NonNullable<PoolOptions['strategy']>
  /** Statements to cancel, and as many others. */
  count: number
}

export interface CancelResult {
  /** CancelRequests that were sent. */
  canceled: number
  /** What statements came to that nobody canceled, and that failed or had a wrong answer. */
  hit: string[]
}

/** Few, so that a connection serves another session while a cancel is under way. */
const connections = 5
const atATime = 12
/** How long a statement takes, in seconds: cancels arrive before, during and after the answer of a short one. */
const short = 0.01
const long = 600
const statement = 'SELECT $2::int AS id FROM pg_sleep($1)'
/** For the server to stop what was canceled. Milliseconds. */
const timeout = 60_000

/** A statement to cancel. */
interface Victim {
  text: string
  seconds: number
  /** Resolves when it is to be canceled. */
  leave (): Promise<unknown>
}

type Ways = Record<string, (victim: Victim) => Promise<unknown>>

/**
 * Cancels statements in every way, among others on the same connections that nobody cancels. Resolves when no canceled
 * statement runs on the server any more.
 */
export async function cancelAmongOthers ({ connectionString, strategy, count }: CancelOptions): Promise<CancelResult> {
  const apps: FastifyInstance[] = []
  const open = async (http2: boolean): Promise<number> => {
    const app = Fastify({ ...(http2 && { http2 }) } as {}) as unknown as FastifyInstance
    apps.push(app)
    await app.register(pgScope, { connectionString, pool: { strategy, max: connections, acquireTimeout: 60_000 } })
    const handler = async ({ db, query }: FastifyRequest) => {
      const { text, seconds, id } = query as { text: string, seconds: string, id: string }
      return (await db.query(text, [seconds, id])).rows[0]
    }
    for (const mode of ['transaction', 'autocommit'] as const) {
      app.route({ method: ['GET', 'POST'], url: `/${mode}`, config: { db: { mode } }, handler })
    }
    app.get('/timeout', { handlerTimeout: 8 }, handler)
    await app.listen({ port: 0, host: '127.0.0.1' })
    return (app.server.address() as AddressInfo).port
  }
  const port = await open(false)
  const http2Port = await open(true)
  const proxy = await startReverseProxy(port)
  const [{ db }] = apps as [FastifyInstance]
  const observer = new pg.Pool({ connectionString, max: 1 })
  /** How many backends sleep, in statements like this one. */
  const sleeping = async (pattern = '%'): Promise<number> => (await observer.query(
    "SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND query LIKE $1", [pattern]
  )).rowCount!
  const victimOf = (n: number): Victim => {
    if (n % 8 !== 0) return { text: statement, seconds: short, leave: () => sleep(n % 17) }
    const text = `${statement} -- victim ${n}.`
    return { text, seconds: long, leave: () => waitFor(() => sleeping(`% -- victim ${n}.`), { timeout, interval: 25 }) }
  }
  let modes = 0
  const path = (route: string, { text, seconds }: Pick<Victim, 'text' | 'seconds'>, id = 0): string =>
    `${route}?${new URLSearchParams({ text, seconds: String(seconds), id: String(id) })}`
  const eitherMode = (): string => modes++ % 2 === 0 ? '/transaction' : '/autocommit'
  const hangUp = async (port: number, victim: Victim, body?: object): Promise<void> => {
    const { socket, response } = openRequest(port, { path: path(eitherMode(), victim), body })
    await Promise.race([victim.leave(), response])
    socket.destroy()
    await response
  }
  const aborted = async ({ leave }: Victim, run: (signal: AbortSignal) => Promise<unknown>): Promise<void> => {
    const controller = new AbortController()
    const work = run(controller.signal).catch(() => {})
    await Promise.race([leave(), work])
    controller.abort()
    await work
  }
  const valuesOf = ({ seconds }: Victim): unknown[] => [seconds, 0]
  const ways: Ways = {
    'hang-up, GET': (victim) => hangUp(port, victim),
    'hang-up, POST with a body': (victim) => hangUp(port, victim, { a: 1 }),
    'hang-up behind a reverse proxy': (victim) => hangUp(proxy.port, victim),
    'HTTP/2 reset': async (victim) => {
      const { leave, response } = openHttp2Request(http2Port, { path: path(eitherMode(), victim) })
      await Promise.race([victim.leave(), response])
      leave()
      await response
    },
    handlerTimeout: (victim) => send(port, { path: path('/timeout', victim) }),
    'signal of a scope': (victim) => aborted(victim, (signal) =>
      db.scope((session) => session.query(victim.text, valuesOf(victim)), { signal })),
    'signal of a statement': (victim) => aborted(victim, (signal) =>
      db.query({ text: victim.text, values: valuesOf(victim), signal })),
    // The server shows its FETCH, not its text.
    'signal of a stream': (victim) => aborted({ ...victim, leave: () => sleep(100) }, (signal) => db.scope((session) =>
      session.stream({ text: victim.text, values: valuesOf(victim), signal }).toArray())),
    'close() of a session': async (victim) => {
      const session = db.session()
      const work = session.query(victim.text, valuesOf(victim)).catch(() => {})
      await Promise.race([victim.leave(), work])
      await session.close()
    }
  }
  const hit: string[] = []
  const bystander = async (id: number): Promise<void> => {
    const seconds = short * (id % 4)
    const answer = id % 3 === 0
      ? await db.query(statement, [seconds, id]).then(({ rows }) => JSON.stringify(rows[0]), String)
      : (await send(port, { path: path(eitherMode(), { text: statement, seconds }, id) })).body
    if (answer !== `{"id":${id}}`) hit.push(answer)
  }
  try {
    const all = Object.values(ways)
    let next = 0
    await Promise.all(Array.from({ length: atATime }, async (_, worker) => {
      while (next < count) {
        const n = ++next
        const victim = all[n % all.length]!(victimOf(n))
        await Promise.all([victim, bystander(n), worker % 2 === 0 ? null : sleep(n % 5)])
      }
    }))
    for (const { db } of apps) {
      await waitFor(() => db.stats().inUse + db.stats().waiting === 0, { timeout, message: 'every connection is back' })
    }
    await waitFor(async () => await sleeping() === 0, {
      timeout, interval: 50, message: 'no canceled statement runs any more'
    })
    return { canceled: apps.reduce((sum, { db }) => sum + db.stats().counters.canceled, 0), hit }
  } finally {
    await observer.end()
    await proxy.close()
    await Promise.all(apps.map((app) => app.close()))
  }
}

/** As nginx does: a client that hangs up ends the request behind it. */
async function startReverseProxy (upstream: number): Promise<{ port: number, close (): Promise<void> }> {
  const agent = new Agent({ keepAlive: true })
  const server = createServer((request, response) => {
    const { method, url, headers } = request
    const kept = { ...headers, connection: 'keep-alive' }
    const behind = httpRequest({ host: '127.0.0.1', port: upstream, method, path: url, headers: kept, agent })
    request.pipe(behind)
    behind.on('response', (answer) => {
      response.writeHead(answer.statusCode!, answer.headers)
      answer.pipe(response)
    })
    behind.on('error', () => response.destroy())
    response.on('close', () => { if (!response.writableFinished) behind.destroy() })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    async close () {
      agent.destroy()
      server.closeAllConnections()
      server.close()
    }
  }
}
