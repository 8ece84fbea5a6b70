import type {
  AcquireEvent, ConnectEvent, LeaseEvent, StatementEvent, TelemetryEvent, TransactionEvent
} from '../../types/telemetry.ts'
import { isPgScopeError } from '../errors.ts'
import {
  acquireChannel, connectChannel, leaseChannel, statementChannel, transactionChannel
} from '../telemetry/channels.ts'
import type { Channel } from '../telemetry/channel.ts'
import { Count, Durations } from './observations.ts'
import type { ObservedEngines } from './observed-engines.ts'
import type { Registry } from './prom-client.ts'
import type { Make } from './stats-metrics.ts'

/** Where there is no request. */
const noRoute = ''

const outcomes = {
  committed: 'committed',
  rolledBack: 'rolled_back',
  released: 'released',
  unknown: 'unknown'
} as const

/**
 * The metrics that are counted as events end.
 *
 * @param prefix begins their names
 * @param buckets of all durations, in seconds
 * @returns subscribes; what that returns ends it
 */
export function makeEventMetrics (
  register: Registry, prefix: string, make: Make, engines: ObservedEngines, buckets: number[]
): () => () => void {
  const bounds = [...buckets].sort((a, b) => a - b)
  const added = <Metric> (metric: Metric): Metric => {
    register.registerMetric(metric)
    return metric
  }
  const config = (name: string, help: string, labelNames: string[]) =>
    ({ name: prefix + name, help, labelNames: ['engine', ...labelNames] })
  const duration = (name: string, help: string, labelNames: string[]) =>
    added(new Durations(config(name, help, labelNames), bounds))

  const transactions = duration('transaction_duration_seconds',
    'From the first statement to the answer of COMMIT or ROLLBACK.', ['route', 'outcome'])
  const statements = added(new Count(config('statements_total', 'Statements of callers.', ['route', 'outcome'])))
  const statementTimes = duration('statement_duration_seconds', 'From the call of a statement to its result.', ['mode'])
  // Shown from the start: Prometheus does not see the increase of a counter that appears with 1.
  const unknown = make('Counter', {
    name: 'unknown_outcomes_total',
    help: 'COMMITs whose connection was lost before their answer.',
    labelNames: ['engine'],
    collect: () => engines.forEach((_stats, engine) => unknown.inc!({ engine }, 0))
  })
  const waits = duration('acquire_wait_seconds', 'The wait for a connection.', ['outcome'])
  const creations = duration('connection_create_seconds', 'The time to open a connection.', ['outcome'])
  const uses = duration('connection_use_seconds', 'From the grant of a connection to its return.', [])

  const subscriptions: (() => () => void)[] = []
  const on = <Event extends TelemetryEvent>(
    channel: Channel<Event>, record: (event: Event, engine: string, seconds: number) => void
  ): void => {
    subscriptions.push(() => channel.onEnd((event) => {
      if (engines.has(event.engine.db)) record(event, event.engine.decorator, event.duration! / 1000)
    }))
  }

  on<TransactionEvent>(transactionChannel, ({ kind, route = noRoute, outcome }, engine, seconds) => {
    if (kind === 'savepoint') return
    transactions.observe(seconds, [engine, route, outcomes[outcome!]])
    if (outcome === 'unknown') unknown.inc!({ engine })
  })
  on<StatementEvent>(statementChannel, ({ route = noRoute, mode, error }, engine, seconds) => {
    statements.add([engine, route, outcomeOf(error)])
    statementTimes.observe(seconds, [engine, mode])
    if (mode === 'autocommit' && isPgScopeError(error) && error.code === 'FST_PG_SCOPE_COMMIT_UNKNOWN') {
      unknown.inc!({ engine })
    }
  })
  on<AcquireEvent>(acquireChannel, ({ outcome }, engine, seconds) => {
    waits.observe(seconds, [engine, outcome!])
  })
  on<ConnectEvent>(connectChannel, ({ error }, engine, seconds) => {
    creations.observe(seconds, [engine, outcomeOf(error)])
  })
  on<LeaseEvent>(leaseChannel, (_event, engine, seconds) => uses.observe(seconds, [engine]))
  return () => {
    const undo = subscriptions.map((subscribe) => subscribe())
    return () => { for (const unsubscribe of undo) unsubscribe() }
  }
}

function outcomeOf (error: unknown): string {
  return error === undefined ? 'success' : 'error'
}
