import t from 'tap'
import { gate, outcomeCases } from './outcome-cases.ts'
import { send } from '../../../harness/http-client.ts'
import { startPgProxy } from '../../../harness/pg-proxy.ts'
import { keptConnections } from '../../../harness/variant.ts'
import { waitFor } from '../../../harness/wait-for.ts'

const { postgres, test } = await outcomeCases(t)
const insert = 'INSERT INTO note VALUES ($1)'

test('a deferred constraint that fails at COMMIT is a 409, its cause is in the log once, and the pool is healthy', {}, async (t, { app, listen, saved, log }) => {
  app.get('/', async (request, reply) => {
    await request.db.query('INSERT INTO unique_note VALUES ($1), ($1)', ['twice'])
    return reply.code(201).header('x-id', '7').send({ ok: true })
  })
  const port = await listen()
  const { status, body } = await send(port)
  t.equal(status, 409)
  t.match(JSON.parse(body), { statusCode: 409, code: 'FST_PG_SCOPE_CONSTRAINT_VIOLATION' })
  t.same(await saved(), [])
  const logged = log.filter(({ err }) => err !== undefined)
  t.equal(logged.length, 1)
  t.match(logged[0]!.err!.stack, /unique_note_text_key/)
  t.match(app.db.stats(), { open: keptConnections(1), counters: { destroyed: 0 } }, 'the connection was kept')
})

test('a serialization failure at COMMIT is a 503 with Retry-After', {}, async (t, { app, listen, saved }) => {
  await postgres.query(insert, ['start'])
  const read = { a: gate(), b: gate() }
  const wrote = { a: gate(), b: gate() }
  const answered = gate()
  app.get<{ Params: { name: 'a' | 'b' } }>('/:name', { config: { db: { isolation: 'serializable' } } }, async (request) => {
    const { name } = request.params
    const { rows } = await request.db.query('SELECT count(*)::int AS n FROM note')
    read[name].open()
    await Promise.all([read.a.opened, read.b.opened])
    await request.db.query(insert, [`${name} saw ${rows[0].n}`])
    wrote[name].open()
    await Promise.all([wrote.a.opened, wrote.b.opened])
    if (name === 'b') await answered.opened
    return 'x'
  })
  const port = await listen()
  const b = send(port, { path: '/b' })
  t.equal((await send(port, { path: '/a' })).status, 200)
  answered.open()
  const { status, headers, body } = await b
  t.equal(status, 503)
  t.match(headers, { 'retry-after': /^\d+$/ })
  t.match(JSON.parse(body), { code: 'FST_PG_SCOPE_SERIALIZATION_FAILURE' })
  t.same(await saved(), ['a saw 1', 'start'])
})

test('any other error of COMMIT is a 500', {}, async (t, { app, listen, saved, log }) => {
  app.get('/', async (request) => {
    await request.db.query('INSERT INTO slow VALUES ($1, 0, $2)', ['refused', 'P0001'])
    return 'x'
  })
  t.match(await send(await listen()), { status: 500, body: /FST_PG_SCOPE_COMMIT_FAILED/ })
  t.same(await saved(), [])
  t.match(log.find(({ err }) => err !== undefined)?.err?.stack, /refused by COMMIT/)
})

test('a backend killed while its handler is away from the database: no success, and the process lives', {}, async (t, { app, listen, saved }) => {
  const killed = gate()
  const waiting = gate()
  let pid = 0
  app.get('/', async (request) => {
    pid = (await request.db.query('SELECT pg_backend_pid() AS pid')).rows[0].pid
    await request.db.query(insert, ['lost'])
    waiting.open()
    await killed.opened
    return { ok: true }
  })
  const port = await listen()
  const response = send(port)
  await waiting.opened
  await postgres.query('SELECT pg_terminate_backend($1, 5000)', [pid])
  await waitFor(() => app.db.stats().inUse === 0, { message: 'the dead connection is noticed' })
  killed.open()
  const { status, headers, body } = await response
  t.equal(status, 503)
  t.match(headers, { 'retry-after': /^\d+$/ })
  t.match(JSON.parse(body), { code: 'FST_PG_SCOPE_CONNECTION_LOST' })
  t.same(await saved(), [])
})

test('a backend killed under a running statement: that statement\'s error is the answer', {}, async (t, { app, listen, saved, busy }) => {
  app.get('/', async (request) => {
    await request.db.query(insert, ['lost'])
    await request.db.query('SELECT pg_sleep(60)')
    return 'x'
  })
  const port = await listen()
  const response = send(port)
  await waitFor(async () => (await busy()).some((text) => text.includes('pg_sleep')))
  await postgres.query('SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE query LIKE \'SELECT pg_sleep(60)%\'')
  t.match(await response, { status: 503, headers: { 'retry-after': /^\d+$/ }, body: /FST_PG_SCOPE_CONNECTION_LOST/ })
  t.same(await saved(), [])
})

test('a connection that dies under COMMIT is told as an unknown outcome', { register: false }, async (t, { app, plugin, listen }) => {
  const proxy = await startPgProxy(t, postgres)
  const { default: pgScope } = await import('../../../harness/plugin.ts')
  await app.register(pgScope, { ...plugin, connectionString: proxy.connectionString(postgres.connectionString) })
  app.get('/', async (request) => {
    await request.db.query(insert, ['perhaps'])
    return 'x'
  })
  const port = await listen()
  const trap = proxy.cutOn(/^commit$/i)
  t.match(await send(port), { status: 500, body: /FST_PG_SCOPE_COMMIT_UNKNOWN/ })
  t.ok(trap)
})

test('a read-only answer does not wait for COMMIT, unless it is SERIALIZABLE', { register: false }, async (t, { app, plugin, listen }) => {
  const proxy = await startPgProxy(t, postgres)
  const { default: pgScope } = await import('../../../harness/plugin.ts')
  await app.register(pgScope, { ...plugin, connectionString: proxy.connectionString(postgres.connectionString) })
  const reader = async (request: { db: typeof app.db }) => (await request.db.query('SELECT 1 AS one')).rows
  app.addHook('onSend', async () => { proxy.pause() })
  app.get('/plain', { config: { db: { readOnly: true } } }, reader as never)
  app.get('/serializable', { config: { db: { readOnly: true, isolation: 'serializable' } } }, reader as never)
  app.get('/writable', reader as never)
  const port = await listen()

  t.match(await send(port, { path: '/plain' }), { status: 200, body: '[{"one":1}]' }, 'although nothing reaches the server any more')
  proxy.resume()
  for (const path of ['/serializable', '/writable']) {
    let answered = false
    const response = send(port, { path }).finally(() => { answered = true })
    await waitFor(() => app.db.stats().inUse === 1)
    await new Promise((resolve) => setTimeout(resolve, 300))
    t.notOk(answered, `${path} waits for COMMIT`)
    proxy.resume()
    t.match(await response, { status: 200, body: '[{"one":1}]' })
  }
})

test('a read-only request cannot write', {}, async (t, { app, listen, saved }) => {
  app.get('/', { config: { db: { readOnly: true } } }, async (request) => {
    await request.db.query(insert, ['lost'])
  })
  t.match(await send(await listen()), { status: 500, body: /25006/ })
  t.same(await saved(), [])
})
