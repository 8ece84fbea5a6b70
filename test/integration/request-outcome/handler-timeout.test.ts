import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { gate, outcomeCases } from './outcome-cases.ts'
import { send } from '../../../harness/http-client.ts'
import { waitFor } from '../../../harness/wait-for.ts'

const { test } = await outcomeCases(t)
const insert = 'INSERT INTO note VALUES ($1)'

test('handlerTimeout rolls back, and the handler that goes on finds its session closed', {}, async (t, { app, listen, saved }) => {
  const goOn = gate()
  const over = gate()
  const late: { state?: string, errors: unknown[] } = { errors: [] }
  app.get('/', { handlerTimeout: 1000 }, async (request) => {
    await request.db.query(insert, ['lost'])
    await goOn.opened
    late.state = request.db.state
    late.errors.push(await request.db.query(insert, ['late']).catch((error) => error))
    late.errors.push(await request.db.transaction((db) => db.query(insert, ['late'])).catch((error) => error))
    late.errors.push(await request.db.commit().catch((error) => error))
    setImmediate(over.open)
    return 'dropped'
  })
  const port = await listen()
  t.match(await send(port), { status: 503, body: /FST_ERR_HANDLER_TIMEOUT/ })
  await waitFor(() => app.db.stats().inUse === 0)
  const { acquired } = app.db.stats().counters
  goOn.open()
  await over.opened
  t.equal(late.state, 'closed')
  for (const error of late.errors) t.match(error, { code: 'FST_PG_SCOPE_SESSION_CLOSED', details: /app\.db\.scope\(/ })
  t.equal(app.db.stats().counters.acquired, acquired, 'it has not reached a connection')
  t.same(await saved(), [])
})

test('handlerTimeout stops a running statement on the server', {}, async (t, { app, listen, saved, busy }) => {
  const failed = gate()
  app.get('/', { handlerTimeout: 200 }, async (request) => {
    await request.db.query(insert, ['lost'])
    await request.db.query('SELECT pg_sleep(60)').catch(failed.open)
  })
  t.equal((await send(await listen())).status, 503)
  await waitFor(async () => app.db.stats().inUse === 0 && (await busy()).length === 0)
  await failed.opened
  t.same(await saved(), [])
})

test('handlerTimeout while the handler waits for a connection takes it out of the queue', { plugin: { pool: { max: 1 } } }, async (t, { app, listen, saved }) => {
  const held = gate()
  const release = gate()
  app.get('/hold', async (request) => {
    await request.db.query(insert, ['held'])
    held.open()
    await release.opened
    return 'x'
  })
  app.get('/wait', { handlerTimeout: 200 }, async (request) => {
    await request.db.query(insert, ['lost'])
  })
  const port = await listen()
  const holder = send(port, { path: '/hold' })
  await held.opened
  t.equal((await send(port, { path: '/wait' })).status, 503)
  await waitFor(() => app.db.stats().waiting === 0)
  release.open()
  t.equal((await holder).status, 200)
  t.equal(app.db.stats().counters.acquired, 1)
  t.same(await saved(), ['held'])
})

test('handlerTimeout before the session was touched: the first touch comes too late', {}, async (t, { app, listen, saved }) => {
  const goOn = gate()
  const over = gate()
  let late: unknown
  app.get('/', { handlerTimeout: 100 }, async (request) => {
    await goOn.opened
    late = await request.db.query(insert, ['late']).catch((error) => error)
    over.open()
  })
  t.equal((await send(await listen())).status, 503)
  await sleep(50)
  goOn.open()
  await over.opened
  t.match(late, { code: 'FST_PG_SCOPE_SESSION_CLOSED' })
  t.equal(app.db.stats().counters.acquired, 0)
  t.same(await saved(), [])
})

test('handlerTimeout while COMMIT is under way: the client gets the success that was being sent, with its status and headers', {}, async (t, { app, listen, saved, log }) => {
  app.setErrorHandler((_error, _request, reply) => reply.code(503).header('x-error', 'yes').type('text/x-error').send('an error'))
  app.get('/', { handlerTimeout: 1000 }, async (request, reply) => {
    await request.db.query('INSERT INTO slow VALUES ($1, 2.5, NULL)', ['stands'])
    return reply.code(201).header('x-id', '7').type('application/json').send({ ok: true })
  })
  const response = await send(await listen())
  t.match(response, { status: 201, headers: { 'x-id': '7', 'content-type': /^application\/json/, 'content-length': '11' }, body: '{"ok":true}', complete: true })
  t.notOk('x-error' in response.headers)
  t.same(await saved(), ['stands'])
  t.ok(log.some(({ msg }) => /request completed/.test(msg)))
})

test('handlerTimeout while a COMMIT is under way that fails: the client gets COMMIT\'s error', {}, async (t, { app, listen, saved }) => {
  app.get('/', { handlerTimeout: 1000 }, async (request, reply) => {
    await request.db.query('INSERT INTO slow VALUES ($1, 2.5, $2)', ['refused', '23505'])
    return reply.code(201).header('x-id', '7').send({ ok: true })
  })
  const { status, body, complete } = await send(await listen())
  t.equal(status, 409)
  t.match(JSON.parse(body), { statusCode: 409, code: 'FST_PG_SCOPE_CONSTRAINT_VIOLATION' })
  t.ok(complete)
  t.same(await saved(), [])
})

test('handlerTimeout while a COMMIT is under way that fails, with a custom error handler', {}, async (t, { app, listen, saved }) => {
  app.setErrorHandler((error, _request, reply) =>
    reply.code((error as { statusCode?: number }).statusCode ?? 500).send({ code: (error as { code?: string }).code }))
  app.get('/', { handlerTimeout: 1000 }, async (request) => {
    await request.db.query('INSERT INTO slow VALUES ($1, 2.5, $2)', ['refused', '40001'])
    return 'x'
  })
  const { status, body, complete } = await send(await listen())
  t.equal(status, 503)
  t.match(body, /FST_PG_SCOPE_SERIALIZATION_FAILURE/)
  t.ok(complete)
  t.same(await saved(), [])
})

test('handlerTimeout in a slow onSend hook of the user\'s rolls back, although two answers pass through the hooks', {}, async (t, { app, listen, saved }) => {
  let first = true
  app.addHook('onSend', async () => {
    if (!first) return
    first = false
    await sleep(500)
  })
  app.get('/', { handlerTimeout: 200 }, async (request) => {
    await request.db.query(insert, ['lost'])
    return 'x'
  })
  const response = await send(await listen())
  t.ok(response.complete)
  t.equal(response.status, 503)
  await sleep(500)
  t.same(await saved(), [])
})

test('handlerTimeout under a POST with a body never fires: the work is committed when it is done', {}, async (t, { app, listen, saved }) => {
  app.post('/', { handlerTimeout: 100 }, async (request) => {
    await request.db.query(insert, ['kept'])
    await sleep(300)
    return 'x'
  })
  const { status } = await send(await listen(), { body: {} })
  t.equal(status === 200, (await saved()).length === 1, 'the answer and the table agree')
})
