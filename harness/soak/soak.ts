import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import pg from 'pg'
import type { Stats } from '../../types/engine.ts'
import type { PoolOptions } from '../../types/options.ts'
import { waitFor } from '../wait-for.ts'
import { buildApp, connections, schema } from './app.ts'
import { Clients } from './clients.ts'
import { type Sample, sample, slope } from './heap.ts'
import { Ledger } from './ledger.ts'

export interface SoakOptions {
  connectionString: string
  strategy?: PoolOptions['strategy']
  /** All of them, the warm-up included. */
  requests: number
  /** Requests before the first sample: caches fill, functions are compiled. */
  warmUp: number
  samples: number
  /** Bytes of heap for each request that would be a leak. */
  limit: number
  clients?: number
  /** Called with the app before it is used. */
  prepare?: (app: FastifyInstance) => void
  /** Called after each sample. */
  progress?: (sample: Sample) => void
}

export interface SoakResult {
  samples: Sample[]
  /** Bytes of heap for each request after the warm-up. */
  slope: number
  seconds: number
  stats: Stats
  /** Figures worth reading, and what each has to be. Empty where nothing is wrong. */
  figures: [name: string, value: string][]
  failures: string[]
}

export async function soak ({
  connectionString, strategy, requests, warmUp, samples: count, limit, clients: clientCount = 20, prepare, progress
}: SoakOptions): Promise<SoakResult> {
  const observer = new pg.Client({ connectionString, application_name: 'observer' })
  await observer.connect()
  await observer.query(schema)
  const warnings: string[] = []
  const warned = (warning: Error) => warnings.push(`${warning.name}: ${warning.message}`)
  process.on('warning', warned)
  const app = await buildApp(connectionString, strategy)
  const ledger = new Ledger(requests)
  const clients = new Clients((app.server.address() as AddressInfo).port, clientCount, ledger)
  const start = performance.now()
  try {
    prepare?.(app)
    const samples: Sample[] = []
    for (let i = 0; i < count; i++) {
      const end = Math.round(warmUp + (requests - warmUp) * i / (count - 1))
      await clients.sendUpTo(end)
      await quiet(app)
      samples.push(await sample(end))
      progress?.(samples.at(-1)!)
    }
    const seconds = (performance.now() - start) / 1000
    const inTransaction = (await observer.query("SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name <> 'observer' AND state <> 'idle'")).rowCount!
    const rows = (await observer.query<{ request: number }>('SELECT request FROM soak')).rows.map(({ request }) => request)
    const late = (await observer.query('SELECT FROM late')).rowCount!
    const { lost, unwanted, twice, unknownSaved } = ledger.compare(rows)
    const stats = app.db.stats()
    const bytes = slope(samples)
    const grown = growth(samples)
    const acknowledged = ledger.count('saved')

    const figures: [string, string][] = [
      ['requests', `${requests} in ${seconds.toFixed(0)} s, ${clientCount} at a time on ${connections} connections`],
      ['heap after the warm-up, at the end', `${kilobytes(samples[0]!.heap)}, ${kilobytes(samples.at(-1)!.heap)}`],
      ['heap for each request', `${bytes.toFixed(1)} bytes (limit ${limit})`],
      ['sockets, timers: after the warm-up, at the end', `${describe(samples[0]!)}; ${describe(samples.at(-1)!)}`],
      ['told of a success, of an error, of nothing', `${acknowledged}, ${ledger.count('notSaved')}, ${ledger.count('nothing')}`],
      ['rows', `${rows.length} = ${acknowledged} acknowledged + ${unknownSaved} unknown`],
      ['acknowledged and lost, refused and saved, saved twice', `${lost}, ${unwanted}, ${twice}`],
      ['statements after a timeout that ran', `${late}`],
      ['pool: in use, waiting, open', `${stats.inUse}, ${stats.waiting}, ${stats.open} of ${stats.max}`],
      ['connections opened, destroyed; CancelRequests', `${stats.counters.opened}, ${stats.counters.destroyed}; ${stats.counters.canceled}`],
      ['backends in a transaction at the end', `${inTransaction}`],
      ['answers that were not the expected ones', `${ledger.surprised}`],
      ['warnings of Node.js', `${warnings.length}`]
    ]
    const failures = [
      bytes > limit && `the heap grows by ${bytes.toFixed(0)} bytes for each request`,
      grown.length > 0 && `more than after the warm-up: ${grown.join(', ')}`,
      lost > 0 && `${lost} acknowledged rows are lost`,
      unwanted > 0 && `${unwanted} rows are there although their client was told of an error`,
      twice > 0 && `${twice} rows are there twice`,
      rows.length !== acknowledged + unknownSaved && 'the number of rows is not acknowledged + unknown',
      late > 0 && `${late} statements ran after their request was over`,
      (stats.inUse > 0 || stats.waiting > 0 || stats.open > stats.max || stats.open !== stats.idle) && `the pool is not whole: ${JSON.stringify(stats)}`,
      inTransaction > 0 && `${inTransaction} backends are not idle`,
      ledger.surprised > 0 && `${ledger.surprised} answers were not the expected ones: ${ledger.surprises.join('; ')}`,
      warnings.length > 0 && `warnings: ${warnings.slice(0, 3).join('; ')}`
    ].filter((failure) => failure !== false)
    return { samples, slope: bytes, seconds, stats, figures, failures }
  } finally {
    clients.close()
    process.off('warning', warned)
    await app.close()
    await observer.end()
  }
}

/** Until nothing is under way: handlers that outlive their timeout end 60 ms later. */
async function quiet (app: FastifyInstance): Promise<void> {
  await sleep(150)
  await waitFor(() => {
    const { inUse, waiting } = app.db.stats()
    return inUse + waiting === 0
  }, { timeout: 10_000, message: 'all connections came back' })
}

/**
 * Kinds of sockets and timers of which there are clearly more at the end: a pool may have opened its last connection
 * late.
 */
function growth (samples: readonly Sample[]): string[] {
  const first = samples[0]!.resources
  const last = samples.at(-1)!.resources
  return Object.entries(last)
    .filter(([type, count]) => count > (first[type] ?? 0) + connections)
    .map(([type, count]) => `${type} ${count} after ${first[type] ?? 0}`)
}

const kilobytes = (bytes: number) => `${(bytes / 1000).toFixed(0)} kB`
const describe = ({ resources }: Sample) => Object.entries(resources).map(([type, count]) => `${count} ${type}`).join(', ')
