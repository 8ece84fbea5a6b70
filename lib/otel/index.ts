import { type MeterProvider, metrics, trace, type TracerProvider } from '@opentelemetry/api'
import type { FastifyInstance } from 'fastify'
import type { Engine } from '../../types/engine.ts'
import type { StatementEvent, TelemetryEvent, TransactionEvent } from '../../types/telemetry.ts'
import { pgScopeError } from '../errors.ts'
import {
  acquireChannel, connectChannel, leaseChannel, statementChannel, transactionChannel
} from '../telemetry/channels.ts'
import type { Channel } from '../telemetry/operation.ts'
import { ClientMetrics, observePool } from './client-metrics.ts'
import { statementSpan, transactionSpan } from './spans.ts'

export interface OtelOptions {
  /** The decorator of the engine. Default 'db'. For a second engine call registerOtel() again. */
  decorator?: string
  /** Default: the global one. */
  tracerProvider?: TracerProvider
  /** Default: the global one. */
  meterProvider?: MeterProvider
}

const scope = 'fastify-pg-scope'

/**
 * Makes spans and metrics of an engine, by the semantic conventions for PostgreSQL clients, until the app closes. To be
 * called after the plugin is loaded.
 *
 * @throws FST_PG_SCOPE_OPTIONS if the app has no such engine
 */
export function registerOtel (app: FastifyInstance, options: OtelOptions = {}): void {
  const { decorator = 'db', tracerProvider = trace, meterProvider = metrics } = options
  const db = (app as unknown as Record<string, Engine | undefined>)[decorator]
  if (typeof db?.stats !== 'function') {
    throw pgScopeError('FST_PG_SCOPE_OPTIONS', `The app has no engine \`${decorator}\`: await the registration of ` +
      'fastify-pg-scope before registerOtel(), and pass its `decorator`.')
  }
  const tracer = tracerProvider.getTracer(scope)
  const meter = meterProvider.getMeter(scope)
  const clientMetrics = new ClientMetrics(meter)
  const undo = [
    observePool(meter, { db, decorator }),
    follow<StatementEvent>(db, statementChannel, (event) => {
      statementSpan(tracer, event)
      clientMetrics.statement(event)
    }),
    follow<TransactionEvent>(db, transactionChannel, (event) => transactionSpan(tracer, event)),
    follow(db, acquireChannel, (event) => clientMetrics.acquired(event)),
    follow(db, connectChannel, (event) => clientMetrics.connected(event)),
    follow(db, leaseChannel, (event) => clientMetrics.returned(event))
  ]
  app.addHook('onClose', async () => { for (const end of undo) end() })
}

/** Calls back with each event of the engine that has ended. @returns ends it */
function follow<Event extends TelemetryEvent> (
  db: Engine, { asyncEnd }: Channel<Event>, ended: (event: Event) => void
): () => void {
  const listener = (message: unknown): void => {
    const event = message as Event
    if (event.engine.db === db) ended(event)
  }
  asyncEnd.subscribe(listener)
  return () => { asyncEnd.unsubscribe(listener) }
}
