import type { Counters, ReplicaStats, Stats } from '../../types/engine.ts'
import type { ObservedEngines } from './observed-engines.ts'
import type { Metric, MetricConfig } from './prom-client.ts'

/** Makes a metric of one of these classes. */
export type Make = (kind: 'Counter' | 'Gauge', config: Omit<MetricConfig, 'registers'>) => Metric

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

const replicaGauges: Record<string, [string, (replica: ReplicaStats) => number | null]> = {
  replica_in_use: ['1 if read-only work goes to the replica, 0 if not.', ({ inUse }) => Number(inUse)],
  replica_lag_seconds: ['How far it is behind; missing if unknown.', ({ lag }) => lag === null ? null : lag / 1000],
  replica_open_connections: ['Connections to the replica that exist.', ({ pool }) => pool.open],
  replica_used_connections: ['Connections to the replica in use.', ({ pool }) => pool.inUse],
  replica_waiting_requests: ['Sessions and statements that wait for a connection to it.', ({ pool }) => pool.waiting]
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
  for (const [name, [help, read]] of Object.entries(replicaGauges)) {
    const gauge = make('Gauge', {
      name,
      help,
      labelNames: ['engine', 'replica'],
      collect: () => {
        gauge.reset()
        engines.forEach(({ replicas }, engine) => {
          for (const replica of replicas) {
            const value = read(replica)
            if (value !== null) gauge.set!({ engine, replica: replica.name }, value)
          }
        })
      }
    })
  }
  const acquires = make('Counter', {
    name: 'replica_acquires_total',
    help: 'Connections to the replica granted.',
    labelNames: ['engine', 'replica'],
    collect: () => {
      acquires.reset()
      engines.forEach(({ replicas }, engine) => {
        for (const { name, counters } of replicas) acquires.inc!({ engine, replica: name }, counters.acquired)
      })
    }
  })
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
