// What a tracer can rely on: the real SDK, together with @fastify/otel.
import { FastifyOtelInstrumentation } from '@fastify/otel'
import { context, SpanStatusCode, trace } from '@opentelemetry/api'
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks'
import {
  AggregationTemporality, InMemoryMetricExporter, MeterProvider, PeriodicExportingMetricReader
} from '@opentelemetry/sdk-metrics'
import {
  BasicTracerProvider, InMemorySpanExporter, type ReadableSpan, SimpleSpanProcessor
} from '@opentelemetry/sdk-trace-base'
import Fastify from 'fastify'
import t from 'tap'
import { pgScope } from '../../../harness/plugin.ts'
import { openRequest, send } from '../../../harness/http-client.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { waitFor } from '../../../harness/wait-for.ts'
import { registerOtel } from '../../../lib/otel/index.ts'

const postgres = await startTestPostgres(t)
await postgres.query('CREATE TABLE note (text text UNIQUE)')
context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable())
const exporter = new InMemorySpanExporter()
const tracerProvider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] })
trace.setGlobalTracerProvider(tracerProvider)
t.beforeEach(() => exporter.reset())

async function start (t: { teardown (fn: () => unknown): unknown }, options: { meterProvider?: MeterProvider } = {}) {
  const app = Fastify()
  t.teardown(() => app.close())
  const instrumentation = new FastifyOtelInstrumentation()
  instrumentation.setTracerProvider(tracerProvider)
  await app.register(instrumentation.plugin() as any)
  await app.register(pgScope, { connectionString: postgres.connectionString })
  registerOtel(app, options)
  return app
}

function own (): ReadableSpan[] {
  return exporter.getFinishedSpans().filter((span) => span.instrumentationScope.name === 'fastify-pg-scope')
}

function parentOf (span: ReadableSpan): ReadableSpan | undefined {
  return exporter.getFinishedSpans().find((each) => each.spanContext().spanId === span.parentSpanContext?.spanId)
}

t.test('a request has a span for each statement and one for its transaction, inside its own', async (t) => {
  const app = await start(t)
  app.get('/notes/:id', async (request) => {
    await Promise.all([
      request.db.query('SELECT text FROM note WHERE text = $1', ['secret']),
      request.db.query("SELECT 'secret' FROM note")
    ])
    return 'fine'
  })
  t.equal((await app.inject('/notes/1')).statusCode, 200)
  await waitFor(() => own().length === 3)
  const [first, second, transaction] = own()
  t.match(first!.attributes, {
    'db.system.name': 'postgresql',
    'db.query.text': 'SELECT text FROM note WHERE text = $1',
    'db.query.summary': 'SELECT note',
    'db.operation.name': 'SELECT',
    'db.operation.batch.size': 2,
    'server.address': postgres.host,
    'server.port': postgres.port
  })
  t.equal(first!.name, 'SELECT note')
  t.equal(second!.attributes['db.query.text'], 'SELECT ? FROM note')
  t.match(transaction!.attributes, { 'pg_scope.transaction.outcome': 'committed', 'pg_scope.transaction.wait_time': Number })
  const traceId = first!.spanContext().traceId
  for (const span of own()) {
    t.equal(span.spanContext().traceId, traceId)
    t.match(parentOf(span)?.instrumentationScope.name, '@fastify/otel', span.name)
  }
  t.notMatch(JSON.stringify(own().map(({ attributes, status, events }) => [attributes, status, events])), /secret/)
})

t.test('a span of the app is the parent, also of statements that wait for a connection', async (t) => {
  const app = await start(t)
  const tracer = trace.getTracer('app')
  await Promise.all(Array.from({ length: 30 }, (_, i) => tracer.startActiveSpan(`work ${i}`, async (span) => {
    await app.db.query('SELECT $1::int', [i])
    await app.db.scope((db) => db.query('SELECT $1::int', [i]))
    span.end()
  })))
  await waitFor(() => own().length === 90)
  for (const span of own()) t.match(parentOf(span)?.name, /^work/)
})

t.test('errors have their SQLSTATE, and no message with a value', async (t) => {
  const app = await start(t)
  app.post('/', async (request) => {
    for (let i = 0; i < 2; i++) await request.db.query('INSERT INTO note VALUES ($1)', ['secret'])
  })
  t.equal((await app.inject({ method: 'POST', url: '/' })).statusCode, 500)
  await waitFor(() => own().length === 3)
  const [, failed, transaction] = own()
  t.match(failed, { status: { code: SpanStatusCode.ERROR }, attributes: { 'error.type': '23505', 'db.response.status_code': '23505' } })
  t.match(transaction!.attributes, { 'pg_scope.transaction.outcome': 'rolled_back', 'db.response.status_code': '23505' })
  t.notMatch(JSON.stringify(own().map(({ attributes, status, events }) => [attributes, status, events])), /secret/)
})

t.test('a hang-up leaves no span open', async (t) => {
  const app = await start(t)
  app.get('/', async (request) => { await request.db.query('SELECT pg_sleep(60)') })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = app.server.address() as { port: number }
  const { socket } = openRequest(port)
  await waitFor(async () => (await postgres.activity()).some(({ query }) => query.includes('pg_sleep')))
  socket.destroy()
  await waitFor(() => own().length === 2)
  t.match(own().map(({ attributes }) => attributes['error.type']), ['FST_PG_SCOPE_CANCELED', 'FST_PG_SCOPE_CANCELED'])
  await send(port, { path: '/nowhere' })
})

t.test('the metrics of the conventions are recorded', async (t) => {
  const metricExporter = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE)
  const reader = new PeriodicExportingMetricReader({ exporter: metricExporter, exportIntervalMillis: 1e6 })
  const meterProvider = new MeterProvider({ readers: [reader] })
  t.teardown(() => meterProvider.shutdown())
  const app = await start(t, { meterProvider })
  await app.db.scope((db) => db.query('SELECT 1'))
  await waitFor(() => app.db.stats().inUse === 0)
  await reader.forceFlush()
  const found = metricExporter.getMetrics().at(-1)!.scopeMetrics.flatMap(({ metrics }) => metrics)
  const byName = new Map(found.map((metric) => [metric.descriptor.name, metric]))
  t.match(byName.get('db.client.operation.duration'), {
    descriptor: { unit: 's' }, dataPoints: [{ attributes: { 'db.system.name': 'postgresql', 'db.operation.name': 'SELECT' }, value: { count: 1 } }]
  })
  for (const name of ['wait_time', 'create_time', 'use_time']) {
    t.match(byName.get(`db.client.connection.${name}`)?.dataPoints, [{ attributes: { 'db.client.connection.pool.name': 'db' }, value: { count: 1 } }], name)
  }
  t.match(byName.get('db.client.connection.max')?.dataPoints, [{ value: 10 }])
  t.match(byName.get('db.client.connection.count')?.dataPoints.map(({ attributes }) => attributes['db.client.connection.state']), ['idle', 'used'])
  t.match(byName.get('db.client.connection.pending_requests')?.dataPoints, [{ value: 0 }])
})
