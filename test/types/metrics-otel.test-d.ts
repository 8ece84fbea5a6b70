import type { FastifyInstance } from 'fastify'
import { MeterProvider } from '@opentelemetry/sdk-metrics'
import { BasicTracerProvider } from '@opentelemetry/sdk-trace-base'
import client, { Registry } from 'prom-client'
import { registerMetrics } from '../../lib/metrics/index.ts'
import { registerOtel } from '../../lib/otel/index.ts'

export function register (app: FastifyInstance): void {
  registerMetrics(app)
  registerMetrics(app, { register: new Registry(), decorator: 'reporting', buckets: [0.1, 1], prefix: 'db_', client })
  registerOtel(app, { tracerProvider: new BasicTracerProvider(), meterProvider: new MeterProvider() })
  // @ts-expect-error: no such option
  registerMetrics(app, { registry: new Registry() })
}
