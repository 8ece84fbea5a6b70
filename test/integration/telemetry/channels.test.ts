// What a subscriber to the tracing channels can rely on.
import { createHook } from 'node:async_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { inspect } from 'node:util'
import Fastify from 'fastify'
import { Registry } from 'prom-client'
import t from 'tap'
import { phases, place, record } from './events.ts'
import { openRequest, send } from '../../../harness/http-client.ts'
import { startPgProxy, type Teardown } from '../../../harness/pg-proxy.ts'
import { pgScope } from '../../../harness/plugin.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { onlyDirect } from '../../../harness/variant.ts'
import { waitFor } from '../../../harness/wait-for.ts'
import { registerMetrics } from '../../../lib/metrics/index.ts'

const postgres = await startTestPostgres(t)
await postgres.query('CREATE TABLE note (text text UNIQUE DEFERRABLE INITIALLY DEFERRED)')

async function start (t: Teardown, { fastify = {}, ...options }: { fastify?: object, [option: string]: unknown } = {}) {
  const app = Fastify(fastify)
  t.teardown(() => app.close())
  app.addHook('onRequest', (request, _reply, done) => place.run(request.url, done))
  await app.register(pgScope, { connectionString: postgres.connectionString, ...options })
  return app
}

t.test('a request publishes its statements, its transaction, its connection and its end', async (t) => {
  const app = await start(t)
  app.post('/notes/:id', async (request) => {
    await request.db.query('INSERT INTO note VALUES ($1)', ['secret value'])
    return (await request.db.query({ name: 'all', text: 'SELECT * FROM note WHERE text = $1', values: ['secret value'] })).rows
  })
  const { all, ended, open } = record(t)
  t.equal((await app.inject({ method: 'POST', url: '/notes/7' })).statusCode, 200)
  const route = 'POST /notes/:id'
  t.match(ended('statement'), [
    { route, text: 'INSERT INTO note VALUES ($1)', kind: 'query', mode: 'transaction', attempts: 1, batchSize: 1, command: 'INSERT', rowCount: 1 },
    { route, name: 'all', command: 'SELECT', rowCount: 1, error: undefined }
  ])
  t.match(ended('transaction'), [{ route, kind: 'transaction', name: 'BEGIN', outcome: 'committed', waitTime: Number, readOnly: false }])
  t.match(ended('acquire'), [{ route, raw: false, outcome: 'granted' }])
  t.match(ended('settle'), [{ route, wanted: 'commit', outcome: 'committed' }])
  await waitFor(() => ended('lease').length === 1 && open().length === 0)
  for (const { event, place } of all.filter(({ name }) => name !== 'connect')) {
    t.equal(event.engine.db, app.db)
    t.match(event.engine, { decorator: 'db', host: postgres.host, port: postgres.port })
    t.equal(place, '/notes/7', 'the async context is that of the request')
    t.ok(event.duration! >= 0)
  }
  t.notMatch(inspect(all.map(({ event: { engine, ...rest } }) => rest), { depth: 9 }), /secret value/, 'no value is published')
  await postgres.query('TRUNCATE note')
})

t.test('every phase is published once, in the order of tracePromise(), and an error before asyncStart', async (t) => {
  const app = await start(t)
  const { all } = record(t)
  await t.rejects(app.db.query('SELECT 1/0'), { code: '22012' })
  const of = (name: string) => all.filter((each) => each.name === name).map(({ phase }) => phase)
  t.same(of('statement'), ['start', 'end', 'error', 'asyncStart', 'asyncEnd'])
  t.match(all.find(({ phase }) => phase === 'error')!.event.error, { code: '22012' })
  t.same(of('acquire'), ['start', 'end', 'asyncStart', 'asyncEnd'])
})

t.test('scope(), autocommit, app.db.query(), lease() and session() publish too', async (t) => {
  const app = await start(t)
  app.get('/auto', { config: { db: { mode: 'autocommit' } } }, async (request) => (await request.db.query('SELECT 1 AS one')).rows)
  const { ended, open } = record(t)
  await app.db.query('SELECT 2')
  await app.db.scope((db) => db.query('SELECT 3'))
  await app.db.lease((client) => client.query('SELECT 4'))
  const session = app.db.session()
  await session.query('SELECT 5')
  await session.close()
  await app.inject('/auto')
  t.match(ended('statement'), [
    { text: 'SELECT 2', mode: 'autocommit', route: undefined }, { text: 'SELECT 3', mode: 'transaction' },
    { text: 'SELECT 5' }, { text: 'SELECT 1 AS one', mode: 'autocommit', route: 'GET /auto' }
  ])
  t.same(ended('transaction').map(({ outcome }) => outcome), ['committed', 'rolledBack'])
  t.same(ended('acquire').map(({ raw }) => raw), [false, false, true, false, false])
  t.same(ended('settle').map(({ wanted, outcome }) => [wanted, outcome]), [['commit', 'committed'], ['rollback', 'rolledBack'], ['commit', 'committed']])
  await waitFor(() => open().length === 0)
})

t.test('statements under one round trip say so', async (t) => {
  const app = await start(t)
  const { ended } = record(t)
  await app.db.scope((db) => Promise.all([db.query('SELECT 1'), db.query('SELECT 2'), db.query('SELECT 3')]))
  t.same(ended('statement').map(({ batchSize }) => batchSize), [3, 3, 3])
})

t.test('a stream publishes its cursor and its batches in the context of its caller', async (t) => {
  const app = await start(t)
  const { all, ended, open } = record(t)
  const rows = await place.run('stream', () => app.db.scope(async (db) => {
    return (await db.stream('SELECT generate_series(1, $1::int)', [25], { batchSize: 10 }).toArray()).length
  }))
  t.equal(rows, 25)
  t.match(ended('statement'), ['declare', 'fetch', 'fetch', 'fetch'].map((kind) => ({ kind, text: 'SELECT generate_series(1, $1::int)' })))
  t.same(ended('statement').map(({ rowCount }) => rowCount).slice(1), [10, 10, 5])
  t.ok(all.filter(({ name }) => name === 'statement').every(({ place }) => place === 'stream'))
  await waitFor(() => open().length === 0)
})

t.test('a stream that is left early ends its events', async (t) => {
  const app = await start(t)
  const { open } = record(t)
  await app.db.scope(async (db) => {
    const rows = db.stream('SELECT generate_series(1, 100)', [], { batchSize: 10 })
    await rows[Symbol.asyncIterator]().next()
    rows.destroy()
  })
  await waitFor(() => open().length === 0)
})

t.test('savepoints are published with their outcome', async (t) => {
  const app = await start(t)
  const { ended, open } = record(t)
  await app.db.scope(async (db) => {
    await db.transaction((inner) => inner.query('SELECT 1'))
    await db.transaction((inner) => inner.query('SELECT 1/0')).catch(() => {})
    const savepoint = await db.savepoint('mine')
    await db.query('SELECT 2')
    await savepoint.rollback()
    await db.savepoint('open at the end')
    await db.query('SELECT 3')
  })
  t.match(ended('transaction'), [
    { kind: 'savepoint', outcome: 'released' }, { kind: 'savepoint', outcome: 'rolledBack', error: { code: '22012' } },
    { kind: 'savepoint', name: 'mine', outcome: 'rolledBack' }, { kind: 'savepoint', name: 'open at the end', outcome: 'released' },
    { kind: 'transaction', outcome: 'committed' }
  ])
  await waitFor(() => open().length === 0)
})

t.test('every end of a request completes its events', async (t) => {
  const app = await start(t, { fastify: { handlerTimeout: 300 } })
  let hangs = () => {}
  app.get('/throw', async (request) => { await request.db.query('SELECT 1'); throw new Error('no') })
  app.get('/400', async (request, reply) => { await request.db.query('SELECT 1'); return reply.code(400).send('no') })
  app.get('/failed', async (request) => { await request.db.query('SELECT 1/0').catch(() => {}); return 'fine' })
  app.get('/commit-fails', async (request) => { for (let i = 0; i < 2; i++) await request.db.query('INSERT INTO note VALUES (1)'); return 'fine' })
  app.get('/unused', async (request) => request.db.state)
  app.get('/savepoint', async (request) => request.db.transaction(async (db) => { await db.query('SELECT 1'); hangs(); await sleep(60000, undefined, { ref: false }) }))
  app.get('/hang-up', async (request) => { await request.db.query('SELECT 1'); hangs(); await request.db.query('SELECT pg_sleep(60)') })
  app.get('/timeout', async (request) => { await request.db.query('SELECT pg_sleep(60)') })
  app.get('/hijack', async (request, reply) => { await request.db.query('SELECT 1'); reply.hijack(); reply.raw.end('bye') })
  app.get('/stream', async (request, reply) => reply.send(request.db.stream('SELECT generate_series(1, 50) AS n', [], { batchSize: 10 })))
  app.get('/404', { onRequest: async (request) => { await request.db.query('SELECT 1') } }, async (_request, reply) => reply.callNotFound())
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = app.server.address() as { port: number }
  const { ended, open, all } = record(t)
  for (const [path, wanted] of Object.entries({
    '/throw': ['rolledBack'],
    '/400': ['rolledBack'],
    '/failed': ['rolledBack'],
    '/commit-fails': ['rolledBack'],
    '/unused': [],
    '/timeout': ['rolledBack'],
    '/hijack': ['rolledBack'],
    '/stream': ['committed'],
    '/404': ['rolledBack']
  })) {
    all.length = 0
    await send(port, { path })
    await waitFor(() => open().length === 0 && ended('settle').length >= 1, { message: path })
    t.same(ended('transaction').filter(({ kind }) => kind === 'transaction').map(({ outcome }) => outcome), wanted, path)
  }
  for (const path of ['/hang-up', '/savepoint']) {
    all.length = 0
    const reached = new Promise<void>((resolve) => { hangs = resolve })
    const { socket } = openRequest(port, { path })
    await reached
    socket.destroy()
    await waitFor(() => open().length === 0 && ended('settle').length === 1, { message: path })
    t.match(ended('settle'), [{ wanted: 'rollback', outcome: 'rolledBack' }], path)
    t.ok(ended('transaction').every(({ outcome }) => outcome === 'rolledBack'), path)
  }
})

t.test('a transaction whose outcome is unknown says so', async (t) => {
  const proxy = await startPgProxy(t, postgres)
  const app = await start(t, { connectionString: proxy.connectionString(postgres.connectionString) })
  const { ended, open } = record(t)
  await t.rejects(app.db.scope(async (db) => {
    await db.query('SELECT 1')
    proxy.cutOn('COMMIT')
  }), { code: 'FST_PG_SCOPE_COMMIT_UNKNOWN' })
  t.match(ended('transaction'), [{ outcome: 'unknown', error: { code: 'FST_PG_SCOPE_COMMIT_UNKNOWN' } }])
  t.match(ended('settle'), [{ outcome: 'unknown' }])
  await waitFor(() => open().length === 0)
})

onlyDirect(t, 'ends backends').test('a batch that is sent again says so', async (t) => {
  const app = await start(t, { pool: { max: 1 } })
  await app.db.query('SELECT 1')
  const { ended, open, all } = record(t)
  await postgres.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()")
  await place.run('here', () => app.db.scope((db) => db.query('SELECT 7')))
  t.match(ended('statement'), [{ text: 'SELECT 7', error: undefined }])
  t.ok(all.filter(({ name }) => name === 'acquire').every(({ place }) => place === 'here'))
  await waitFor(() => open().length === 0)
})

t.test('a full pool, an abandoned wait and close() complete the events', async (t) => {
  const app = await start(t, { pool: { max: 1, acquireTimeout: 200 }, closeTimeout: 100 })
  const { ended, open } = record(t)
  const session = app.db.session()
  await session.query('SELECT 1')
  await t.rejects(app.db.query('SELECT 2'), { code: 'FST_PG_SCOPE_POOL_EXHAUSTED' })
  t.match(ended('acquire').at(-1), { outcome: 'refused', error: { code: 'FST_PG_SCOPE_POOL_EXHAUSTED' } })
  const controller = new AbortController()
  const waiting = app.db.query({ text: 'SELECT 3', signal: controller.signal })
  controller.abort()
  await t.rejects(waiting)
  t.match(ended('acquire').at(-1), { outcome: 'abandoned', error: undefined })
  await app.close()
  await waitFor(() => open().length === 0)
  t.match(ended('transaction'), [{ outcome: 'rolledBack' }])
})

t.test('a subscriber that throws disturbs no request', async (t) => {
  const app = await start(t)
  const { tracingChannel } = await import('node:diagnostics_channel')
  const channel = tracingChannel('fastify-pg-scope:statement')
  const thrown: unknown[] = []
  const listeners = process.listeners('uncaughtException')
  process.removeAllListeners('uncaughtException')
  process.on('uncaughtException', (error) => thrown.push(error))
  const subscriber = Object.fromEntries(phases.map((phase) => [phase, () => { throw new Error(phase) }])) as any
  channel.subscribe(subscriber)
  try {
    t.match(await app.db.query('SELECT 1 AS one'), { rows: [{ one: 1 }] })
    await waitFor(() => thrown.length === 4)
  } finally {
    channel.unsubscribe(subscriber)
    process.removeAllListeners('uncaughtException')
    for (const listener of listeners) process.on('uncaughtException', listener)
  }
})

t.test('without a subscriber nothing is made of an event', async (t) => {
  const app = await start(t)
  let made = 0
  // Every published event keeps the async context of its caller.
  const hook = createHook({ init: (_id, type) => { if (type === 'fastify-pg-scope') made++ } }).enable()
  t.teardown(() => { hook.disable() })
  const work = async () => {
    await app.db.query('SELECT 1')
    await app.db.scope(async (db) => {
      await db.transaction((inner) => inner.query('SELECT 1'))
      await db.stream('SELECT 1').toArray()
    })
  }
  await work()
  t.equal(made, 0)
  registerMetrics(app, { register: new Registry() })
  await work()
  t.equal(made, 0, 'metrics need no context')
  const { ended } = record(t)
  await work()
  t.ok(made > 0 && ended('statement').length > 0)
})
