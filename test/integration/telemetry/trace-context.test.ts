// Which trace a statement belongs to, as the server knows and logs it.
import { context, trace } from '@opentelemetry/api'
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks'
import { BasicTracerProvider } from '@opentelemetry/sdk-trace-base'
import Fastify, { type FastifyRequest } from 'fastify'
import t, { type Test } from 'tap'
import { pgScope } from '../../../harness/plugin.ts'
import { startPgProxy } from '../../../harness/pg-proxy.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { waitFor } from '../../../harness/wait-for.ts'
import { registerOtel } from '../../../lib/otel/index.ts'
import { asTraceparent } from '../../../lib/telemetry/traceparent.ts'

const traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'
const lines: string[] = []
const postgres = await startTestPostgres(t, {
  settings: { log_line_prefix: '[%a] ', log_min_duration_statement: 0 },
  log: (line) => lines.push(line)
})
const now = "SELECT current_setting('pg_scope.traceparent', true) AS trace, current_setting('application_name') AS name"

async function start (t: Test, options: object = {}) {
  const app = Fastify()
  t.teardown(() => app.close())
  const { connectionString } = postgres
  await app.register(pgScope, { connectionString, applicationName: 'shop:api@host', ...options })
  const read = async (request: FastifyRequest) => (await request.db.query(now)).rows[0]
  app.get('/', read)
  app.get('/auto', { config: { db: { mode: 'autocommit' } } }, read)
  app.get('/fails', async (request) => { await request.db.query('SELECT 1/0 AS broken') })
  app.get('/set', { config: { db: { settings: { 'app.a': 1 } } } }, read)
  const get = async (url: string, headers: Record<string, string> = { traceparent }) =>
    (await app.inject({ url, headers })).json()
  return { app, get }
}

t.test('the header of a request reaches the server, its log lines and no other session', async (t) => {
  const { app, get } = await start(t, { traceContext: true, pool: { max: 1 } })
  for (const url of ['/', '/auto', '/set']) {
    t.same(await get(url), { trace: traceparent, name: `shop:ap ${traceparent}` }, url)
    const other = await get(url, {})
    t.notOk(other.trace, 'a request without a trace')
    t.equal(other.name, 'shop:api@host')
  }
  await app.inject({ url: '/fails', headers: { traceparent } })
  await waitFor(() => lines.some((line) => line.startsWith(`[shop:ap ${traceparent}] ERROR:`)))
  t.ok(lines.some((line) => line.startsWith(`[shop:ap ${traceparent}] STATEMENT:  SELECT 1/0 AS broken`)))
  t.ok(lines.some((line) => line.startsWith(`[shop:ap ${traceparent}] LOG:`) && line.includes('duration:')))
  t.equal((await app.db.query('VACUUM')).command, 'VACUUM', 'which must be alone')
})

t.test('it costs no round trip and leaves statements prepared', async (t) => {
  const proxy = await startPgProxy(t, postgres)
  const connectionString = proxy.connectionString(postgres.connectionString)
  const { app, get } = await start(t, { traceContext: true, connectionString })
  for (let i = 0; i < 5; i++) await get('/')
  proxy.reset()
  await get('/')
  await waitFor(() => app.db.stats().inUse === 0)
  t.equal(proxy.roundTrips, 2)
})

t.test('a header that is no traceparent is ignored', async (t) => {
  const { get } = await start(t, { traceContext: true })
  for (const wrong of ['', 'x', traceparent.toUpperCase(), `${traceparent}-x`, traceparent.replace('00-', 'ff-'), traceparent.replace(/-\w{32}-/, `-${'0'.repeat(32)}-`), traceparent.replace(/-\w{16}-/, `-${'0'.repeat(16)}-`), `${traceparent}'; SELECT 1`]) {
    t.notOk((await get('/', { traceparent: wrong })).trace, wrong)
  }
  t.equal(asTraceparent(`01${traceparent.slice(2)}-more`), `01${traceparent.slice(2)}`, 'later versions may be longer')
})

t.test('the active span of OpenTelemetry comes before the header, in scopes and autocommit too', async (t) => {
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable())
  const tracer = new BasicTracerProvider().getTracer('app')
  const { app, get } = await start(t, { traceContext: true })
  registerOtel(app)
  app.addHook('onRequest', (request, _reply, done) => {
    if (request.headers['x-span'] === undefined) return done()
    tracer.startActiveSpan('request', (span) => { context.with(trace.setSpan(context.active(), span), done) })
  })
  t.equal((await get('/')).trace, traceparent)
  t.match((await get('/', { traceparent, 'x-span': '1' })).trace, /^00-(?!4bf92f)\w{32}-\w{16}-01$/)
  await tracer.startActiveSpan('work', async (span) => {
    const expected = `00-${span.spanContext().traceId}-${span.spanContext().spanId}-01`
    t.equal((await app.db.query(now)).rows[0].trace, expected)
    t.equal((await app.db.scope((db) => db.query(now))).rows[0].trace, expected)
    await using session = app.db.session()
    t.equal((await session.query(now)).rows[0].trace, expected)
    t.equal((await session.stream(now).toArray())[0].trace, expected)
  })
})

t.test('a function, another setting, and application_name left alone', async (t) => {
  const { app, get } = await start(t, {
    traceContext: { of: (request: FastifyRequest) => request.headers['x-trace'], setting: 'app.trace', applicationName: false }
  })
  app.get('/own', async (request) => (await request.db.query("SELECT current_setting('app.trace', true) AS trace, current_setting('application_name') AS name")).rows[0])
  t.same(await get('/own', { 'x-trace': traceparent }), { trace: traceparent, name: 'shop:api@host' })
  t.notOk((await get('/own', { 'x-trace': 'nonsense' })).trace)
  t.notOk((await get('/own')).trace)
  const { get: wrong } = await start(t, { traceContext: { of: () => 7 as never } })
  t.equal((await wrong('/')).code, 'FST_PG_SCOPE_OPTIONS')
  for (const traceContext of [{ setting: 'traceparent' }, { of: 'header' }, { applicationName: 'x' }, 'on', { header: 'x' }]) {
    await t.rejects(start(t, { traceContext }), { code: 'FST_PG_SCOPE_OPTIONS', details: /`traceContext/ })
  }
})
