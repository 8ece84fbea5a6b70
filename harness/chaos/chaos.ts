import { setTimeout as sleep } from 'node:timers/promises'
import { idempotencyTable } from '../../lib/idempotency/index.ts'
import { startPgProxy } from '../pg-proxy.ts'
import { startPgBouncer } from '../pgbouncer.ts'
import { freePort } from '../pgbouncer/port.ts'
import { findPooler, startPooler, type TestPooler } from '../pooler.ts'
import { randomOf } from '../random.ts'
import { waitFor } from '../wait-for.ts'
import type { Health } from './app.ts'
import { AppProcess } from './app-process.ts'
import { type Books, compare, schema } from './books.ts'
import { accounts, Clients, type Entry } from './clients.ts'
import { mountDisk } from './disk.ts'
import { schedule, type Setup, type Stage } from './faults.ts'
import { clusterServers, type Servers, singleServer } from './servers.ts'

export interface ChaosOptions {
  minutes: number
  seed: number
  pooler: Setup['pooler']
  /** With a synchronous standby, which takes over at half-time. */
  hasStandby: boolean
  /** Called before each fault. */
  progress?: (fault: string) => void
}

export interface ChaosResult {
  /** Besides the servers: 'a small disk'. */
  hasDisk: boolean
  requests: number
  answers: ReadonlyMap<string, number>
  /** How often each fault happened. */
  faults: ReadonlyMap<string, number>
  books: Books
  /** Answers with COMMIT_UNKNOWN, those that were repeated included. */
  unknown: number
  before: Health
  after: Health
  /** Where the rule was broken, in words. */
  breaches: string[]
}

/** Unknown outcomes that are allowed: one in so many requests. */
const unknownIn = 1000
/** Of fewer requests that says nothing, as a single fault may leave several. */
const judgedFrom = 10_000
/** Growth that is no leak. */
const descriptorsMore = 12
const heapMore = 12_000_000
/** For everything to come to rest. Milliseconds. */
const timeout = 60_000

/** A bank under load while everything around it breaks, and its books afterwards. */
export async function chaos ({ minutes, seed, pooler, hasStandby, progress }: ChaosOptions): Promise<ChaosResult> {
  const teardowns: (() => unknown)[] = []
  const t = { teardown: (callback: () => unknown) => teardowns.push(callback) }
  try {
    // The standby's tablespace would be in the same place.
    const disk = hasStandby ? null : await mountDisk(t)
    const servers = hasStandby ? await clusterServers(t) : await singleServer(t)
    await prepare(servers, disk?.folder)
    const stage = await setUp(t, servers, pooler, disk)
    const clients = new Clients(stage.app.port, randomOf(seed + 1))
    const faults = new Map<string, number>()
    const failures: string[] = []
    const began = performance.now()
    clients.start()
    const planned = schedule({ pooler, hasStandby, hasDisk: disk !== null }, minutes, randomOf(seed))
    for (const { at, fault, length } of planned) {
      await sleep(Math.max(0, at - (performance.now() - began)))
      progress?.(`${((performance.now() - began) / 1000).toFixed(1)} s: ${fault.name}`)
      faults.set(fault.name, (faults.get(fault.name) ?? 0) + 1)
      await fault.run(stage, length).catch((error) => failures.push(`${fault.name}: ${error}`))
    }
    const before = await restartAndRest(stage)
    await clients.stop()
    await waitFor(async () => {
      const { stats } = await stage.app.health()
      return stats.inUse + stats.waiting === 0
    }, { timeout, message: 'every connection is back' })
    const after = await stage.app.health()
    const ledger = await servers.current.query<{ id: string }>('SELECT id FROM ledger')
    const books = compare(clients.journal, ledger.map(({ id }) => id))
    const breaches = [
      ...failures,
      ...await breachesOf(servers, clients, books, before, after),
      ...stage.app.failures.map((text) => `the app: ${text}`)
    ]
    const { requests, answers, unknown } = clients
    return { hasDisk: disk !== null, requests, answers, faults, books, unknown, before, after, breaches }
  } finally {
    for (const teardown of teardowns.reverse()) await teardown()
  }
}

async function prepare ({ current }: Servers, folder: string | undefined): Promise<void> {
  if (folder !== undefined) {
    await current.query(`CREATE TABLESPACE small LOCATION '${folder}'`)
    await current.query('ALTER SYSTEM SET default_tablespace = small')
    await current.query('SELECT pg_reload_conf()')
  }
  await current.query(schema)
  await current.query(idempotencyTable)
}

async function setUp (
  t: { teardown (callback: () => unknown): unknown }, servers: Servers, kind: Setup['pooler'], disk: Stage['disk']
): Promise<Stage> {
  const { current } = servers
  // Poolers are led to a new primary by it.
  const front = await startPgProxy(t, current)
  const upstream = { ...current, port: front.port }
  const pgBouncer = kind === 'PgBouncer' ? await startPgBouncer(t, upstream) : null
  let pooler: TestPooler | null = null
  if (kind === 'Odyssey') {
    const program = await findPooler('odyssey')
    if (program === undefined) throw new Error('Odyssey is not installed: .ci/poolers prepares it')
    pooler = await startPooler(t, upstream, program)
  }
  const behind = pgBouncer ?? pooler
  const proxy = behind === null ? front : await startPgProxy(t, behind)
  const app = new AppProcess(proxy.connectionString((behind ?? current).connectionString), await freePort())
  t.teardown(() => app.end('SIGKILL'))
  await app.start()
  return {
    get server () { return servers.current },
    app,
    proxy,
    pgBouncer,
    pooler,
    disk,
    async failOver () {
      await servers.failOver!()
      front.redirect(servers.current)
      front.cut()
    }
  }
}

/** The same process for a while, so that what it keeps can be seen. */
async function restartAndRest ({ app, proxy, server }: Stage): Promise<Health> {
  await app.end('SIGTERM')
  await app.start()
  await sleep(2000)
  const before = await app.health()
  for (let i = 0; i < 5; i++) {
    proxy.cut()
    await server.terminate('active', 'idle in transaction')
    await sleep(600)
  }
  return before
}

async function breachesOf (
  { current }: Servers, { requests, stuck, unknown }: Clients, books: Books, before: Health, after: Health
): Promise<string[]> {
  const leftOpen = await waitFor(async () => await current.idleInTransaction() === 0, { timeout, interval: 100 })
    .then(() => 0, () => current.idleInTransaction())
  const [totals] = await current.query<{ sum: number, wrong: number }>(`
    SELECT sum(balance)::int AS sum, count(*) FILTER (WHERE balance <> 1000 + incoming - outgoing)::int AS wrong
      FROM accounts, LATERAL (SELECT count(*) AS incoming FROM ledger WHERE "to" = accounts.id) AS i,
           LATERAL (SELECT count(*) AS outgoing FROM ledger WHERE "from" = accounts.id) AS o`)
  const { sum, wrong } = totals!
  const few = (entries: readonly Entry[], what: string): string | false => {
    const examples = entries.slice(0, 3).map((entry) => JSON.stringify(entry))
    return entries.length > 0 && `${entries.length} ${what}: ${examples.join(' ')}`
  }
  return [
    few(books.lost, 'acknowledged transfers are not in the ledger'),
    few(books.unwanted, 'rejected transfers are in the ledger'),
    few(books.twice, 'transfers are in the ledger twice'),
    few(books.notOnce, 'idempotent transfers are not there exactly once'),
    requests >= judgedFrom && unknown > requests / unknownIn && `${unknown} unknown outcomes in ${requests} requests`,
    stuck > 0 && `${stuck} requests were never answered`,
    (sum !== accounts * 1000 || wrong > 0) && `the sum is ${sum}, ${wrong} balances do not fit the ledger`,
    leftOpen > 0 && `${leftOpen} backends idle in transaction`,
    after.stats.open > after.stats.max && `${after.stats.open} connections are open`,
    after.descriptors > before.descriptors + descriptorsMore && `${after.descriptors} descriptors after ${before.descriptors}`,
    after.heap > before.heap + heapMore && `the heap has grown from ${before.heap} to ${after.heap} bytes`,
    ...[...after.warnings, ...after.astray].map((text) => `the app: ${text}`)
  ].filter((breach) => breach !== false)
}
