import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { gate, outcomeCases } from './outcome-cases.ts'
import { hangUp } from '../../../harness/http-client.ts'
import { waitFor } from '../../../harness/wait-for.ts'

// What else may come behind a hang-up that onAbort: 'commit' has let pass.
const { test } = await outcomeCases(t)
const insert = 'INSERT INTO note VALUES ($1)'
const plugin = { onAbort: 'commit' } as const

test('onAbort \'commit\' also holds for a hang-up in a preHandler hook', { plugin }, async (t, { app, listen, saved }) => {
  const reached = gate()
  const goOn = gate()
  app.get('/', {
    preHandler: async (request) => {
      await request.db.query(insert, ['hook'])
      reached.open()
      await goOn.opened
    }
  }, async (request) => {
    await request.db.query(insert, ['handler'])
  })
  await hangUp(await listen(), {}, { after: reached.opened })
  await sleep(50)
  goOn.open()
  await waitFor(() => app.db.stats().inUse === 0)
  t.same(await saved(), ['handler', 'hook'])
})

test('onAbort \'commit\' needs a route that was declared after the plugin was registered: any other is rolled back', { register: false }, async (t, { app, plugin: options, listen, saved }) => {
  const reached = gate()
  const goOn = gate()
  let late: unknown
  app.get('/', async (request) => {
    await request.db.query(insert, ['before'])
    reached.open()
    await goOn.opened
    late = await request.db.query(insert, ['after']).catch((error) => error)
  })
  const { default: pgScope } = await import('../../../harness/plugin.ts')
  await app.register(pgScope, { ...options, ...plugin })
  await hangUp(await listen(), {}, { after: reached.opened })
  await waitFor(() => app.db.stats().inUse === 0)
  goOn.open()
  await waitFor(() => late)
  t.match(late, { code: 'FST_PG_SCOPE_CANCELED' })
  t.same(await saved(), [])
})

test('onAbort \'commit\' has no meaning in a 404 handler: it is rolled back', { plugin }, async (t, { app, listen, saved }) => {
  const reached = gate()
  const goOn = gate()
  let late: unknown
  app.setNotFoundHandler(async (request, reply) => {
    reply.code(200)
    await request.db.query(insert, ['before'])
    reached.open()
    await goOn.opened
    late = await request.db.query(insert, ['after']).catch((error) => error)
  })
  await hangUp(await listen(), {}, { after: reached.opened })
  await waitFor(() => app.db.stats().inUse === 0)
  goOn.open()
  await waitFor(() => late)
  t.match(late, { code: 'FST_PG_SCOPE_CANCELED' })
  t.same(await saved(), [])
})

test('onAbort \'commit\' together with commitOn \'response\'', { plugin: { onAbort: 'commit', commitOn: 'response' } }, async (t, { app, listen, saved }) => {
  const reached = gate()
  const goOn = gate()
  app.get('/', async (request) => {
    await request.db.query(insert, ['before'])
    reached.open()
    await goOn.opened
    await request.db.query(insert, ['after'])
    return 'x'
  })
  await hangUp(await listen(), {}, { after: reached.opened })
  await sleep(50)
  goOn.open()
  await waitFor(() => app.db.stats().inUse === 0)
  t.same(await saved(), ['after', 'before'])
})

test('onAbort \'commit\' with a handler that answers by reply.send() in a callback', { plugin }, async (t, { app, listen, saved }) => {
  const reached = gate()
  const goOn = gate()
  app.get('/', (request, reply) => {
    request.db.query(insert, ['before']).then(reached.open)
    goOn.opened.then(() => request.db.query(insert, ['after'])).then(() => reply.send('x'))
  })
  await hangUp(await listen(), {}, { after: reached.opened })
  await sleep(50)
  goOn.open()
  await waitFor(() => app.db.stats().inUse === 0)
  t.same(await saved(), ['after', 'before'])
})

test('onAbort \'commit\' does not save what setRollbackOnly() or a failed statement forbids', { plugin }, async (t, { app, listen, saved }) => {
  const reached = [gate(), gate()]
  const goOn = gate()
  app.get<{ Params: { i: number } }>('/:i', async (request) => {
    await request.db.query(insert, ['lost'])
    reached[request.params.i]!.open()
    await goOn.opened
    if (Number(request.params.i) === 0) request.db.setRollbackOnly()
    else await request.db.query('SELECT 1 / 0').catch(() => {})
  })
  const port = await listen()
  await Promise.all([0, 1].map((i) => hangUp(port, { path: `/${i}` }, { after: reached[i]!.opened })))
  await sleep(50)
  goOn.open()
  await waitFor(() => app.db.stats().inUse === 0)
  t.same(await saved(), [])
})

test('onAbort \'commit\' with a reply of db.stream() whose client left before its first byte: the work is saved', { plugin }, async (t, { app, listen, saved }) => {
  const reached = gate()
  const goOn = gate()
  app.get('/', async (request) => {
    await request.db.query(insert, ['before'])
    reached.open()
    await goOn.opened
    return request.db.stream('SELECT generate_series(1, 100000) AS n')
  })
  await hangUp(await listen(), {}, { after: reached.opened })
  await sleep(50)
  goOn.open()
  await waitFor(() => app.db.stats().inUse === 0)
  t.same(await saved(), ['before'])
})

test('onAbort \'commit\' and a throw behind a hang-up rolls back', { plugin }, async (t, { app, listen, saved }) => {
  const reached = gate()
  const goOn = gate()
  app.setErrorHandler((_error, _request, reply) => reply.code(200).send('x'))
  app.get('/', async (request) => {
    await request.db.query(insert, ['lost'])
    reached.open()
    await goOn.opened
    throw new Error('no')
  })
  await hangUp(await listen(), {}, { after: reached.opened })
  await sleep(50)
  goOn.open()
  await waitFor(() => app.db.stats().inUse === 0)
  t.same(await saved(), [])
})

test('onAbort \'commit\' asks commitIf, also where no answer comes', { plugin }, async (t, { app, listen, saved, log }) => {
  const reached = { never: gate(), broken: gate() }
  const goOn = gate()
  const handler = (name: 'never' | 'broken') => async (request: { db: typeof app.db }) => {
    await request.db.query(insert, ['lost'])
    reached[name].open()
    await goOn.opened
  }
  app.get('/never', { config: { db: { commitIf: () => false } } }, handler('never') as never)
  app.get('/broken', { config: { db: { commitIf: () => { throw new Error('a bug in the rule') } } } }, handler('broken') as never)
  const port = await listen()
  await Promise.all((['never', 'broken'] as const).map((name) => hangUp(port, { path: `/${name}` }, { after: reached[name].opened })))
  await sleep(50)
  goOn.open()
  await waitFor(() => app.db.stats().inUse === 0)
  t.same(await saved(), [])
  t.ok(log.some(({ err }) => err?.message === 'a bug in the rule'))
})
