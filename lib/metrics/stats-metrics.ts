import type { Counters, Stats } from '../../types/engine.ts'
import type { ObservedEngines } from './observed-engines.ts'
import type { Metric, MetricConfig } from './prom-client.ts'

/** Makes a metric of one of these classes. */
export type Make = (kind: 'Counter' | 'Gauge' | 'Histogram', config: Omit<MetricConfig, 'registers'>) => Metric

const gauges: Record<string, [string, (stats: Stats) => number]> = {
  pool_max_connections: ['The limit of connections (pool.max).', ({ max }) => max],
  pool_open_connections: ['Connections that exist: idle, in use or being opened.', ({ open }) => open],
  pool_idle_connections: ['Connections that are idle.', ({ idle }) => idle],
  pool_used_connections: ['Connections in use.', ({ inUse }) => inUse],
  pool_waiting_requests: ['Sessions and statements that wait for a connection.', ({ waiting }) => waiting],
  oldest_transaction_seconds: ['Age of the oldest open transaction.', (stats) => stats.oldestTransaction / 1000]
}

const counters: Record<string, [string, keyof Counters]> = {
  connections_opened_total: ['Connections opened.', 'opened'],
  connections_destroyed_total: ['Connections ended because no other session could use them.', 'destroyed'],
  acquires_total: ['Connections granted.', 'acquired'],
  hand_overs_total: ['Connections granted while the COMMIT of the session before was not answered.', 'handedOver'],
  acquire_timeouts_total: ['Sessions rejected because acquireTimeout ran out.', 'timedOut'],
  acquire_refusals_total: ['Sessions rejected at once: a full or slow queue, or a deadlock.', 'refused'],
  pool_deadlocks_total: ['Deadlocks of the pool that were resolved by a rejection.', 'deadlocks'],
  connection_leaks_total: ['Connections held longer than leakDetectionThreshold.', 'leaks'],
  round_trips_total: ['Batches sent, with one statement or several.', 'roundTrips'],
  resends_total: ['First batches sent again because their connection was dead.', 'resent'],
  cancels_total: ['CancelRequests sent.', 'canceled'],
  retries_total: ['Handlers and functions of scope() that were run again.', 'retried']
}

/** The metrics that are read from stats() when the register is scraped. */
export function makeStatsMetrics (make: Make, engines: ObservedEngines): void {
  for (const [name, [help, read]] of Object.entries(gauges)) {
    const gauge = make('Gauge', {
      name,
      help,
      labelNames: ['engine'],
      collect: () => {
        gauge.reset()
        engines.forEach((stats, engine) => gauge.set!({ engine }, read(stats)))
      }
    })
  }
  for (const [name, [help, key]] of Object.entries(counters)) {
    const counter = make('Counter', {
      name,
      help,
      labelNames: ['engine'],
      collect: () => {
        counter.reset()
        engines.forEach((stats, engine) => counter.inc!({ engine }, stats.counters[key]))
      }
    })
  }
}
