import t from 'tap'
import { gate, outcomeCases } from './outcome-cases.ts'
import { hangUp, send } from '../../../harness/http-client.ts'
import { waitFor } from '../../../harness/wait-for.ts'

const { test } = await outcomeCases(t)
const insert = 'INSERT INTO note VALUES ($1)'
const warning = /hijacked.*app\.db\.scope\(/

test('a hijacked reply: rolled back as its socket closes, with a warning that points at app.db.scope()', {}, async (t, { app, listen, saved, log }) => {
  app.get('/', async (request, reply) => {
    await request.db.query(insert, ['lost'])
    reply.hijack()
    reply.raw.end('by hand')
  })
  t.match(await send(await listen()), { status: 200, body: 'by hand' })
  await waitFor(() => app.db.stats().inUse === 0)
  t.same(await saved(), [])
  t.equal(log.filter(({ level, msg }) => level === 40 && warning.test(msg)).length, 1)
})

test('a hijacked reply: commit() by hand saves, and there is no warning', {}, async (t, { app, listen, saved, log }) => {
  app.get('/', async (request, reply) => {
    await request.db.query(insert, ['kept'])
    await request.db.commit()
    reply.hijack()
    reply.raw.end('by hand')
  })
  app.get('/later', async (request, reply) => {
    reply.hijack()
    await request.db.query(insert, ['kept too'])
    await request.db.commit()
    reply.raw.end('by hand')
  })
  const port = await listen()
  t.equal((await send(port)).body, 'by hand')
  t.equal((await send(port, { path: '/later' })).body, 'by hand')
  t.same(await saved(), ['kept', 'kept too'])
  t.notOk(log.some(({ level }) => level >= 40))
})

test('a hijacked reply on a keep-alive socket settles when the response ends, not when the socket closes', {}, async (t, { app, listen, saved, log }) => {
  app.get('/', async (request, reply) => {
    await request.db.query(insert, ['lost'])
    reply.hijack()
    reply.raw.setHeader('content-length', '7')
    reply.raw.end('by hand')
  })
  app.get('/next', async (request) => {
    await request.db.query(insert, ['kept'])
    return 'next'
  })
  const port = await listen()
  const first = await send(port, { keepAlive: true })
  t.equal(first.body, 'by hand')
  t.notOk(first.socket.destroyed, 'the socket is still open')
  await waitFor(() => app.db.stats().inUse === 0)
  t.equal((await send(port, { path: '/next', socket: first.socket })).body, 'next')
  t.same(await saved(), ['kept'])
  t.equal(log.filter(({ msg }) => warning.test(msg)).length, 1)
})

test('a hijacked reply whose client hangs up is rolled back, and its statement cancelled', {}, async (t, { app, listen, saved, busy }) => {
  const failed = gate()
  app.get('/', async (request, reply) => {
    await request.db.query(insert, ['lost'])
    reply.hijack()
    reply.raw.write('a piece')
    await request.db.query('SELECT pg_sleep(60)').catch(failed.open)
  })
  const port = await listen()
  await hangUp(port, {}, { after: waitFor(async () => (await busy()).some((text) => text.includes('pg_sleep'))) })
  await waitFor(async () => app.db.stats().inUse === 0 && (await busy()).length === 0)
  await failed.opened
  t.same(await saved(), [])
})

test('a hijacked reply that never touched the session says nothing', {}, async (t, { app, listen, log }) => {
  app.get('/', async (_request, reply) => {
    reply.hijack()
    reply.raw.end('by hand')
  })
  app.get('/idle', async (request, reply) => {
    t.equal(request.db.state, 'idle')
    reply.hijack()
    reply.raw.end('by hand')
  })
  const port = await listen()
  t.equal((await send(port)).body, 'by hand')
  t.equal((await send(port, { path: '/idle' })).body, 'by hand')
  t.notOk(log.some(({ level }) => level >= 40))
})

test('a hijacked reply under inject() is rolled back too', {}, async (t, { app, saved }) => {
  app.get('/', async (request, reply) => {
    await request.db.query(insert, ['lost'])
    reply.hijack()
    reply.raw.end('by hand')
  })
  t.equal((await app.inject('/')).body, 'by hand')
  await waitFor(() => app.db.stats().inUse === 0)
  t.same(await saved(), [])
})
