import type {
  AcquireEvent, ConnectEvent, LeaseEvent, StatementEvent, TelemetryEvent, TransactionEvent
} from '../../types/telemetry.ts'
import { isPgScopeError } from '../errors.ts'
import {
  acquireChannel, connectChannel, leaseChannel, statementChannel, transactionChannel
} from '../telemetry/channels.ts'
import type { Channel } from '../telemetry/operation.ts'
import type { ObservedEngines } from './observed-engines.ts'
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
 * @param buckets of all durations, in seconds
 * @returns subscribes; what that returns ends it
 */
export function makeEventMetrics (make: Make, engines: ObservedEngines, buckets: number[]): () => () => void {
  const duration = (name: string, help: string, labelNames: string[]) =>
    make('Histogram', { name, help, labelNames: ['engine', ...labelNames], buckets })
  const count = (name: string, help: string, labelNames: string[]) =>
    make('Counter', { name, help, labelNames: ['engine', ...labelNames] })

  const transactions = duration('transaction_duration_seconds',
    'From the first statement to the answer of COMMIT or ROLLBACK.', ['route', 'outcome'])
  const statements = count('statements_total', 'Statements of callers.', ['route', 'outcome'])
  const statementTimes = duration('statement_duration_seconds', 'From the call of a statement to its result.', ['mode'])
  const unknown = count('unknown_outcomes_total', 'COMMITs whose connection was lost before their answer.', [])
  const waits = duration('acquire_wait_seconds', 'The wait for a connection.', ['outcome'])
  const creations = duration('connection_create_seconds', 'The time to open a connection.', ['outcome'])
  const uses = duration('connection_use_seconds', 'From the grant of a connection to its return.', [])

  const subscriptions: (() => () => void)[] = []
  const on = <Event extends TelemetryEvent>(
    { asyncEnd }: Channel<Event>, record: (event: Event, engine: string, seconds: number) => void
  ): void => {
    const listener = (message: unknown): void => {
      const event = message as Event
      if (engines.has(event.engine.db)) record(event, event.engine.decorator, event.duration! / 1000)
    }
    subscriptions.push(() => {
      asyncEnd.subscribe(listener)
      return () => { asyncEnd.unsubscribe(listener) }
    })
  }

  on<TransactionEvent>(transactionChannel, ({ kind, route = noRoute, outcome }, engine, seconds) => {
    if (kind === 'savepoint') return
    transactions.observe!({ engine, route, outcome: outcomes[outcome!] }, seconds)
    if (outcome === 'unknown') unknown.inc!({ engine })
  })
  on<StatementEvent>(statementChannel, ({ route = noRoute, mode, error }, engine, seconds) => {
    statements.inc!({ engine, route, outcome: outcomeOf(error) })
    statementTimes.observe!({ engine, mode }, seconds)
    if (mode === 'autocommit' && isPgScopeError(error) && error.code === 'FST_PG_SCOPE_COMMIT_UNKNOWN') {
      unknown.inc!({ engine })
    }
  })
  on<AcquireEvent>(acquireChannel, ({ outcome }, engine, seconds) => {
    waits.observe!({ engine, outcome: outcome! }, seconds)
  })
  on<ConnectEvent>(connectChannel, ({ error }, engine, seconds) => {
    creations.observe!({ engine, outcome: outcomeOf(error) }, seconds)
  })
  on<LeaseEvent>(leaseChannel, (_event, engine, seconds) => uses.observe!({ engine }, seconds))
  return () => {
    const undo = subscriptions.map((subscribe) => subscribe())
    return () => { for (const unsubscribe of undo) unsubscribe() }
  }
}

function outcomeOf (error: unknown): string {
  return error === undefined ? 'success' : 'error'
}
