import {
  context, isSpanContextValid, type MeterProvider, metrics, trace, type TracerProvider
} from '@opentelemetry/api'
import type { FastifyInstance } from 'fastify'
import type { Engine } from '../../types/engine.ts'
import { pgScopeError } from '../errors.ts'
import {
  acquireChannel, connectChannel, leaseChannel, statementChannel, transactionChannel
} from '../telemetry/channels.ts'
import { followEnds, followEndsInContext } from '../telemetry/follow.ts'
import { provideTraceContext } from '../telemetry/traceparent.ts'
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
    provideTraceContext(db, activeSpan),
    observePool(meter, { db, decorator }),
    followEndsInContext(db, statementChannel, (event) => {
      statementSpan(tracer, event)
      clientMetrics.statement(event)
    }),
    followEndsInContext(db, transactionChannel, (event) => transactionSpan(tracer, event)),
    followEnds(db, acquireChannel, (event) => clientMetrics.acquired(event)),
    followEnds(db, connectChannel, (event) => clientMetrics.connected(event)),
    followEnds(db, leaseChannel, (event) => clientMetrics.returned(event))
  ]
  app.addHook('onClose', async () => { for (const end of undo) end() })
}

/** The active span as a traceparent. */
function activeSpan (): string | null {
  const span = trace.getSpanContext(context.active())
  if (span === undefined || !isSpanContextValid(span)) return null
  return `00-${span.traceId}-${span.spanId}-${(span.traceFlags & 0xff).toString(16).padStart(2, '0')}`
}
