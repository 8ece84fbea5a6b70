// What a Prometheus server that scrapes an app can rely on.
import Fastify, { type FastifyRequest } from 'fastify'
import metricsPlugin from 'fastify-metrics'
import { AggregatorRegistry, Registry } from 'prom-client'
import t from 'tap'
import { pgScope } from '../../../harness/plugin.ts'
import { startPgProxy, type Teardown } from '../../../harness/pg-proxy.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { waitFor } from '../../../harness/wait-for.ts'
import { registerMetrics } from '../../../lib/metrics/index.ts'

const postgres = await startTestPostgres(t)

async function start (t: Teardown, options: object = {}) {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(pgScope, { connectionString: postgres.connectionString, ...options })
  return app
}

/** The value of a line, or undefined. */
function valueOf (text: string, line: string): number | undefined {
  const found = text.split('\n').find((each) => each.startsWith(`${line} `))
  return found === undefined ? undefined : Number(found.slice(line.length + 1))
}

t.test('a scrape shows pool, statements and transactions, by the pattern of the route', async (t) => {
  const app = await start(t)
  const register = new Registry()
  registerMetrics(app, { register })
  app.get('/metrics', async () => register.metrics())
  app.get('/notes/:id', async (request) => (await request.db.query('SELECT 1')).rows)
  app.get('/fails/:id', async (request) => (await request.db.query('SELECT 1/0')).rows)
  app.setNotFoundHandler({ preHandler: async (request: FastifyRequest) => { await request.db.query('SELECT 1') } }, async (_request, reply) => reply.code(404).send('no'))
  for (let id = 0; id < 3; id++) {
    await app.inject(`/notes/${id}`)
    await app.inject(`/fails/${id}`)
    await app.inject(`/nowhere/${id}`)
  }
  await waitFor(() => app.db.stats().inUse === 0)
  const text = (await app.inject('/metrics')).body
  t.equal(valueOf(text, 'pg_scope_pool_max_connections{engine="db"}'), 10)
  t.equal(valueOf(text, 'pg_scope_pool_used_connections{engine="db"}'), 0)
  t.equal(valueOf(text, 'pg_scope_pool_waiting_requests{engine="db"}'), 0)
  t.equal(valueOf(text, 'pg_scope_acquires_total{engine="db"}'), 9)
  t.equal(valueOf(text, 'pg_scope_statements_total{engine="db",route="GET /notes/:id",outcome="success"}'), 3)
  t.equal(valueOf(text, 'pg_scope_statements_total{engine="db",route="GET /fails/:id",outcome="error"}'), 3)
  t.equal(valueOf(text, 'pg_scope_transaction_duration_seconds_count{engine="db",route="GET /notes/:id",outcome="committed"}'), 3)
  t.equal(valueOf(text, 'pg_scope_transaction_duration_seconds_count{engine="db",route="GET /fails/:id",outcome="rolled_back"}'), 3)
  t.equal(valueOf(text, 'pg_scope_transaction_duration_seconds_count{engine="db",route="GET (no route)",outcome="rolled_back"}'), 3)
  t.equal(valueOf(text, 'pg_scope_acquire_wait_seconds_count{engine="db",outcome="granted"}'), 9)
  t.equal(valueOf(text, 'pg_scope_connection_use_seconds_count{engine="db"}'), 9)
  t.ok(valueOf(text, 'pg_scope_connection_create_seconds_count{engine="db",outcome="success"}')! >= 1)
  t.ok(valueOf(text, 'pg_scope_round_trips_total{engine="db"}')! >= 15)
  t.notMatch(text, /nowhere/, 'no label has a path of a client')
})

t.test('refused, canceled, deadlocked and leaked connections are counted, and unknown outcomes', async (t) => {
  const proxy = await startPgProxy(t, postgres)
  const app = await start(t, {
    connectionString: proxy.connectionString(postgres.connectionString),
    pool: { max: 1, acquireTimeout: 3000 },
    leakDetectionThreshold: 1500
  })
  const register = new Registry()
  registerMetrics(app, { register, prefix: 'shop_' })
  await t.rejects(app.db.scope(async (db) => {
    await db.query('SELECT 1')
    await app.db.query('SELECT 2')
  }), { code: 'FST_PG_SCOPE_POOL_DEADLOCK' })
  const session = app.db.session()
  await session.query('SELECT 1')
  await t.rejects(app.db.query('SELECT 2'), { code: 'FST_PG_SCOPE_POOL_EXHAUSTED' })
  await session.close()
  await t.rejects(app.db.scope(async (db) => {
    await db.query('SELECT 1')
    proxy.cutOn('COMMIT')
  }), { code: 'FST_PG_SCOPE_COMMIT_UNKNOWN' })
  const text = await register.metrics()
  for (const name of ['pool_deadlocks_total', 'acquire_timeouts_total', 'connection_leaks_total', 'unknown_outcomes_total']) {
    t.equal(valueOf(text, `shop_${name}{engine="db"}`), 1, name)
  }
  t.equal(valueOf(text, 'shop_transaction_duration_seconds_count{engine="db",route="",outcome="unknown"}'), 1)
})

t.test('two engines share a register, and a closed app leaves it', async (t) => {
  const app = await start(t)
  await app.register(pgScope, { connectionString: postgres.connectionString, decorator: 'reporting', pool: { max: 3 } })
  const register = new Registry()
  registerMetrics(app, { register })
  registerMetrics(app, { register, decorator: 'reporting' })
  await (app as any).reporting.scope((db: any) => db.query('SELECT 1'))
  const text = await register.metrics()
  t.equal(valueOf(text, 'pg_scope_pool_max_connections{engine="db"}'), 10)
  t.equal(valueOf(text, 'pg_scope_pool_max_connections{engine="reporting"}'), 3)
  t.equal(valueOf(text, 'pg_scope_acquires_total{engine="reporting"}'), 1)
  t.equal(valueOf(text, 'pg_scope_acquires_total{engine="db"}'), 0)
  await app.close()
  t.notMatch(await register.metrics(), /pool_max_connections\{/)
})

t.test('it works beside fastify-metrics, in its register', async (t) => {
  const app = await start(t)
  await app.register(metricsPlugin as any, { endpoint: '/metrics', defaultMetrics: { enabled: false } })
  const { client } = (app as any).metrics
  t.teardown(() => client.register.clear())
  registerMetrics(app, { client })
  app.get('/', async (request) => (await request.db.query('SELECT 1')).rows)
  await app.inject('/')
  const { body } = await app.inject('/metrics')
  t.match(body, /http_request_duration_seconds/)
  t.match(body, /pg_scope_statements_total\{engine="db",route="GET \/",outcome="success"\} 1/)
})

t.test('buckets are cumulative, whatever their order, and a register can be reset', async (t) => {
  const app = await start(t)
  const register = new Registry()
  registerMetrics(app, { register, buckets: [60, 0.000001] })
  await app.db.query('SELECT 1')
  await waitFor(() => app.db.stats().inUse === 0)
  const text = await register.metrics()
  const bucket = (le: string) => valueOf(text, `pg_scope_statement_duration_seconds_bucket{le="${le}",engine="db",mode="autocommit"}`)
  t.same([bucket('0.000001'), bucket('60'), bucket('+Inf')], [0, 1, 1])
  const labels = '{engine="db",mode="autocommit"}'
  t.equal(valueOf(text, `pg_scope_statement_duration_seconds_count${labels}`), 1)
  t.ok(valueOf(text, `pg_scope_statement_duration_seconds_sum${labels}`)! > 0)
  register.resetMetrics()
  t.notMatch(await register.metrics(), /statement_duration_seconds_count\{/)
  await app.db.query('SELECT 1')
  t.equal(valueOf(await register.metrics(), `pg_scope_statement_duration_seconds_count${labels}`), 1)
})

t.test('OpenMetrics and the sums of a cluster have the same figures', async (t) => {
  const app = await start(t)
  const register = new Registry()
  register.setContentType(Registry.OPENMETRICS_CONTENT_TYPE as any)
  registerMetrics(app, { register })
  await app.db.query('SELECT 1')
  const line = 'pg_scope_statements_total{engine="db",route="",outcome="success"}'
  const text = await register.metrics()
  t.equal(valueOf(text, line), 1)
  t.match(text, /# TYPE pg_scope_statements counter\n/)
  const plain = new Registry()
  registerMetrics(app, { register: plain })
  await app.db.query('SELECT 1')
  const one = await plain.getMetricsAsJSON()
  const sums = await AggregatorRegistry.aggregate([one, structuredClone(one)] as any).metrics()
  t.equal(valueOf(sums, line), 2)
  t.equal(valueOf(sums, 'pg_scope_statement_duration_seconds_count{engine="db",mode="autocommit"}'), 2)
  t.equal(valueOf(sums, 'pg_scope_statement_duration_seconds_bucket{le="+Inf",engine="db",mode="autocommit"}'), 2)
})

t.test('an app without the engine is told so', async (t) => {
  const app = await start(t)
  t.throws(() => registerMetrics(app, { register: new Registry(), decorator: 'nothing' }), { code: 'FST_PG_SCOPE_OPTIONS', details: /no engine `nothing`/ })
})
