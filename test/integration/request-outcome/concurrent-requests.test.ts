import t from 'tap'
import { gate, outcomeCases } from './outcome-cases.ts'
import { send } from '../../../harness/http-client.ts'
import { byStrategy } from '../../../harness/variant.ts'
import { waitFor } from '../../../harness/wait-for.ts'

const { test } = await outcomeCases(t)
const insert = 'INSERT INTO note VALUES ($1)'

test('60 requests on 3 connections, errors among them: each success is saved, nothing else is', { plugin: { pool: { max: 3 } } }, async (t, { app, listen, saved }) => {
  app.get<{ Params: { id: string, how: string } }>('/:how/:id', async (request, reply) => {
    const { how, id } = request.params
    await request.db.query(insert, [`${how} ${id}`])
    await request.db.query('SELECT pg_sleep(0.005)')
    if (how === 'throw') throw new Error('no')
    if (how === 'status') return reply.code(409).send('no')
    if (how === 'sql') await request.db.query('SELECT 1 / 0')
    if (how === 'swallow') await request.db.query('SELECT 1 / 0').catch(() => {})
    if (how === 'commit') await request.db.query('INSERT INTO unique_note VALUES ($1), ($1)', [id])
    return 'x'
  })
  const port = await listen()
  const kinds = ['fine', 'throw', 'status', 'sql', 'swallow', 'commit']
  const expected = { fine: 200, throw: 500, status: 409, sql: 500, swallow: 500, commit: 409 } as Record<string, number>
  const paths = Array.from({ length: 60 }, (_, i) => ({ how: kinds[i % kinds.length]!, id: i }))
  const responses = await Promise.all(paths.map(({ how, id }) => send(port, { path: `/${how}/${id}` })))
  t.same(responses.map(({ status }) => status), paths.map(({ how }) => expected[how]))
  t.same(await saved(), paths.filter(({ how }) => how === 'fine').map(({ how, id }) => `${how} ${id}`).sort())
  t.ok(app.db.stats().counters.opened <= byStrategy({ queue: 3, null: 60 }), 'never more than 3 connections, and none was thrown away')
  t.equal(app.db.stats().counters.destroyed, 0)
})

test('a statement that was not awaited is committed with the others', {}, async (t, { app, listen, saved }) => {
  app.get('/', async (request) => {
    request.db.query('SELECT pg_sleep(0.1)')
    request.db.query(insert, ['unawaited'])
    return 'x'
  })
  t.match(await send(await listen()), { status: 200, body: 'x' })
  t.same(await saved(), ['unawaited'])
})

test('a statement that was not awaited and fails is a 500', {}, async (t, { app, listen, saved, log }) => {
  app.get('/', async (request) => {
    await request.db.query(insert, ['lost'])
    request.db.query('SELECT pg_sleep(0.1)')
    request.db.query('SELECT 1 / 0')
    return 'x'
  })
  app.get('/first', async (request) => {
    request.db.query('SELECT 1 / 0')
    return 'x'
  })
  const port = await listen()
  t.match(await send(port), { status: 500, body: /FST_PG_SCOPE_TRANSACTION_ABORTED/ })
  t.match(await send(port, { path: '/first' }), { status: 500, body: /FST_PG_SCOPE_TRANSACTION_ABORTED/ })
  t.same(await saved(), [])
  t.ok(log.some(({ err }) => /division by zero/.test(err?.stack ?? '')))
})

test('a statement that was not awaited is cancelled when the handler throws', {}, async (t, { app, listen, saved }) => {
  app.get('/', async (request) => {
    request.db.query(insert, ['lost'])
    request.db.query('SELECT pg_sleep(60)')
    throw new Error('no')
  })
  const start = performance.now()
  t.equal((await send(await listen())).status, 500)
  await waitFor(() => app.db.stats().inUse === 0)
  t.ok(performance.now() - start < 30000, 'its connection is not kept for 60 s')
  t.same(await saved(), [])
})

test('a statement after the answer is refused, points at app.db.scope(), and takes no connection', {}, async (t, { app, listen, saved }) => {
  const answered = gate()
  const late: { error?: any, state?: string } = {}
  const done = gate()
  app.get('/', async (request, reply) => {
    await request.db.query(insert, ['in time'])
    reply.send('x')
    await answered.opened
    late.state = request.db.state
    late.error = await request.db.query(insert, ['late']).catch((error) => error)
    done.open()
    return reply
  })
  const port = await listen()
  t.equal((await send(port)).status, 200)
  const { acquired } = app.db.stats().counters
  answered.open()
  await done.opened
  t.equal(late.state, 'closed')
  t.match(late.error, { code: 'FST_PG_SCOPE_SESSION_CLOSED', details: /app\.db\.scope\(/ })
  t.equal(app.db.stats().counters.acquired, acquired)
  t.same(await saved(), ['in time'])
})

test('a session that was touched but never used is refused after the answer too', {}, async (t, { app, listen }) => {
  const answered = gate()
  let late: Promise<unknown> | undefined
  app.get('/', async (request) => {
    const { db } = request
    late = answered.opened.then(() => db.query('SELECT 1')).catch((error) => error)
    return 'x'
  })
  await send(await listen())
  answered.open()
  t.match(await late, { code: 'FST_PG_SCOPE_SESSION_CLOSED' })
  t.equal(app.db.stats().counters.acquired, 0)
})

test('a session that is touched for the first time after the answer is closed already', {}, async (t, { app, listen }) => {
  const closed = gate()
  let late: Promise<unknown> | undefined
  app.get('/', async (request, reply) => {
    reply.raw.once('close', () => setImmediate(closed.open))
    late = closed.opened.then(() => request.db.query('SELECT 1')).catch((error) => error)
    return 'x'
  })
  await send(await listen())
  t.match(await late, { code: 'FST_PG_SCOPE_SESSION_CLOSED' })
  t.equal(app.db.stats().counters.acquired, 0)
})

test('reply.send() called twice settles once, and the first answer counts', {}, async (t, { app, listen, saved }) => {
  app.get('/', async (request, reply) => {
    await request.db.query(insert, ['once'])
    reply.send('first')
    reply.send('second')
    return reply
  })
  app.get('/returned', async (request, reply) => {
    await request.db.query(insert, ['returned'])
    reply.code(201).send('first')
    return 'second'
  })
  const port = await listen()
  t.match(await send(port), { status: 200, body: 'first', complete: true })
  t.match(await send(port, { path: '/returned' }), { status: 201, body: 'first', complete: true })
  t.same(await saved(), ['once', 'returned'])
  t.equal(app.db.stats().counters.committed, 2)
})

test('a throw behind reply.send() comes too late to change the answer', {}, async (t, { app, listen, saved }) => {
  app.get('/', async (request, reply) => {
    await request.db.query(insert, ['kept'])
    reply.send('first')
    throw new Error('too late')
  })
  const response = await send(await listen())
  t.equal(response.status === 200, (await saved()).length === 1, 'the answer and the table agree')
  t.ok(response.complete)
})
