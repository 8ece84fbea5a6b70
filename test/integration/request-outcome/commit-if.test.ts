import { Readable } from 'node:stream'
import t from 'tap'
import { gate, outcomeCases } from './outcome-cases.ts'
import { hangUp, send } from '../../../harness/http-client.ts'
import { waitFor } from '../../../harness/wait-for.ts'

// commitIf may promise its answer: until it is there the request waits as it waits for COMMIT.
const { test } = await outcomeCases(t)
const insert = 'INSERT INTO note VALUES ($1)'

for (const commitOn of ['send', 'response'] as const) {
  test(`what commitIf promises decides, whatever the status (commitOn ${commitOn})`, { plugin: { commitOn } }, async (t, { app, listen, saved }) => {
    let asked = 0
    app.get('/:text/:status', { config: { db: { commitIf: async (request) => { asked++; await new Promise(setImmediate); return (request.params as { text: string }).text === 'saved' } } } }, async (request, reply) => {
      const { text, status } = request.params as { text: string, status: string }
      await request.db.query(insert, [text])
      reply.code(Number(status))
      return { text }
    })
    const port = await listen()
    for (const path of ['/saved/200', '/lost/200', '/saved/409', '/lost/409']) t.match(await send(port, { path }), { status: Number(path.slice(-3)), body: /text/ })
    t.equal(asked, 4, 'it is asked once')
    await waitFor(async () => (await saved()).length === 2)
    t.same(await saved(), ['saved', 'saved'])
  })
}

for (const [name, answer] of [['undefined', undefined], ['null', null], ['1', 1], ['a string', 'yes'], ['an object', {}]] as const) {
  test(`commitIf that says ${name} is an error, and nothing is saved`, {}, async (t, { app, saved }) => {
    app.get('/sync', { config: { db: { commitIf: () => answer as never } } }, async (request) => (await request.db.query(insert, ['lost'])).rowCount)
    app.get('/async', { config: { db: { commitIf: async () => answer as never } } }, async (request) => (await request.db.query(insert, ['lost'])).rowCount)
    for (const path of ['/sync', '/async']) t.match(await app.inject(path), { statusCode: 500, body: /FST_PG_SCOPE_OPTIONS/ }, path)
    t.same(await saved(), [])
  })
}

test('commitIf that throws, or whose promise is rejected, is the answer, and nothing is saved', {}, async (t, { app, saved }) => {
  app.get('/sync', { config: { db: { commitIf: () => { throw new Error('a bug in the rule') } } } }, async (request) => (await request.db.query(insert, ['lost'])).rowCount)
  app.get('/async', { config: { db: { commitIf: async () => { throw new Error('a bug in the rule') } } } }, async (request) => (await request.db.query(insert, ['lost'])).rowCount)
  for (const path of ['/sync', '/async']) t.match(await app.inject(path), { statusCode: 500, body: /a bug in the rule/ }, path)
  t.same(await saved(), [])
})

test('rows of a streamed answer are read, and saved or not as commitIf promises', {}, async (t, { app, listen, saved }) => {
  app.get('/:text', { config: { db: { commitIf: async (request) => (request.params as { text: string }).text === 'saved' } } }, async (request) => {
    await request.db.query(insert, [(request.params as { text: string }).text])
    return request.db.stream('SELECT 1 AS a')
  })
  const port = await listen()
  for (const path of ['/saved', '/lost']) t.match(await send(port, { path }), { status: 200, complete: true, body: /"a":1/ })
  await waitFor(() => app.db.stats().inUse === 0)
  t.same(await saved(), ['saved'])
})

test('a statement that fails while commitIf thinks keeps the work from being saved', {}, async (t, { app, saved }) => {
  const failed = gate()
  app.get('/', { config: { db: { commitIf: async () => { await failed.opened; return true } } } }, async (request) => {
    await request.db.query(insert, ['lost'])
    request.db.query('SELECT 1/0').catch(failed.open)
    return 'x'
  })
  t.match(await app.inject('/'), { statusCode: 500 })
  t.same(await saved(), [])
})

test('commitIf is not asked where a statement failed, and not in mode autocommit', { plugin: { commitIf: async () => { throw new Error('asked') } } }, async (t, { app }) => {
  app.get('/failed', async (request) => { await request.db.query('SELECT 1/0').catch(() => {}); return 'x' })
  app.get('/autocommit', { config: { db: { mode: 'autocommit' } } }, async (request) => (await request.db.query('SELECT 1 AS a')).rows)
  t.match(await app.inject('/failed'), { statusCode: 500, body: /TRANSACTION_ABORTED/ })
  t.match(await app.inject('/autocommit'), { statusCode: 200, body: '[{"a":1}]' })
})

const never = { commitIf: () => new Promise<never>(() => {}) }

test('a hang-up while commitIf thinks rolls back', {}, async (t, { app, listen, saved }) => {
  const asked = gate()
  app.get('/', { config: { db: { commitIf: () => { asked.open(); return new Promise<never>(() => {}) } } } }, async (request) => (await request.db.query(insert, ['lost'])).rowCount)
  await hangUp(await listen(), {}, { after: asked.opened })
  await waitFor(() => app.db.stats().inUse === 0)
  t.same(await saved(), [])
})

for (const text of ['lost', 'saved']) {
  test(`with onAbort 'commit' a hang-up while commitIf thinks changes nothing: ${text}, as it says`, { plugin: { onAbort: 'commit' } }, async (t, { app, listen, saved }) => {
    const asked = gate()
    const goOn = gate()
    app.get('/', { config: { db: { commitIf: async () => { asked.open(); await goOn.opened; return text === 'saved' } } } }, async (request) => {
      request.raw.socket.once('close', goOn.open)
      return (await request.db.query(insert, [text])).rowCount
    })
    await hangUp(await listen(), {}, { after: asked.opened })
    await goOn.opened
    await waitFor(() => app.db.stats().inUse === 0)
    t.same(await saved(), text === 'saved' ? ['saved'] : [])
  })

  test(`with onAbort 'commit' commitIf is awaited where the client has gone before: ${text}`, { plugin: { onAbort: 'commit' } }, async (t, { app, listen, saved }) => {
    const reached = gate()
    const gone = gate()
    app.get('/', { config: { db: { commitIf: async () => text === 'saved' } } }, async (request) => {
      request.raw.socket.once('close', gone.open)
      await request.db.query(insert, [text])
      reached.open()
      await gone.opened
      return 'x'
    })
    await hangUp(await listen(), {}, { after: reached.opened })
    await gone.opened
    await waitFor(() => app.db.stats().inUse === 0)
    t.same(await saved(), text === 'saved' ? ['saved'] : [])
  })
}

test('handlerTimeout while commitIf thinks rolls back, and the client reads an error', {}, async (t, { app, listen, saved }) => {
  app.get('/', { config: { db: never }, handlerTimeout: 300 }, async (request, reply) => {
    await request.db.query(insert, ['lost'])
    reply.send({ fine: true })
    return reply
  })
  t.match(await send(await listen()), { status: 503 })
  t.same(await saved(), [])
})

test('a second answer while commitIf thinks rolls back, and the client reads an error', {}, async (t, { app, listen, saved }) => {
  app.get('/', { config: { db: never } }, (request, reply) => {
    request.db.query(insert, ['lost']).then(() => {
      reply.send({ fine: true })
      setTimeout(() => reply.send(new Error('too late')), 20)
    })
  })
  t.match((await send(await listen())).status, /^50/)
  t.same(await saved(), [])
})

test('a stream as the answer is sent after commitIf has said yes', {}, async (t, { app, saved }) => {
  app.get('/', { config: { db: { commitIf: async () => true } } }, async (request) => {
    await request.db.query(insert, ['saved'])
    return Readable.from(['hello'])
  })
  t.equal((await app.inject('/')).body, 'hello')
  t.same(await saved(), ['saved'])
})
