import t from 'tap'
import { outcomeCases } from './outcome-cases.ts'
import { send } from '../../../harness/http-client.ts'

const { test } = await outcomeCases(t)
const insert = 'INSERT INTO note VALUES ($1)'

test('commitIf of a route decides for an error status, and against a success', {}, async (t, { app, listen, saved }) => {
  app.get('/audit', { config: { db: { commitIf: () => true } } }, async (request, reply) => {
    await request.db.query(insert, ['audit'])
    return reply.code(403).send('denied')
  })
  app.get('/dry', { config: { db: { commitIf: (_request, reply) => reply.statusCode === 201 } } }, async (request) => {
    await request.db.query(insert, ['dry run'])
    return 'would do'
  })
  app.get('/thrown', { config: { db: { commitIf: () => true } } }, async (request) => {
    await request.db.query(insert, ['thrown'])
    throw new Error('an attempt worth recording')
  })
  const port = await listen()
  t.match(await send(port, { path: '/audit' }), { status: 403, body: 'denied' })
  t.match(await send(port, { path: '/dry' }), { status: 200, body: 'would do' })
  t.match(await send(port, { path: '/thrown' }), { status: 500, body: /worth recording/ })
  t.same(await saved(), ['audit', 'thrown'])
})

test('commitIf of the app decides for every route that has none of its own', { plugin: { commitIf: (request) => request.headers['x-keep'] === 'yes' } }, async (t, { app, listen, saved }) => {
  app.get<{ Params: { status: number } }>('/:status', async (request, reply) => {
    await request.db.query(insert, [`${request.params.status} ${request.headers['x-keep']}`])
    return reply.code(request.params.status).send('x')
  })
  app.get('/own', { config: { db: { commitIf: () => true } } }, async (request) => {
    await request.db.query(insert, ['own'])
    return 'x'
  })
  const port = await listen()
  for (const [path, keep, status] of [['/200', 'yes', 200], ['/200', 'no', 200], ['/409', 'yes', 409], ['/409', 'no', 409], ['/own', 'no', 200]] as const) {
    t.equal((await send(port, { path, headers: { 'x-keep': keep } })).status, status, `${path} ${keep}`)
  }
  t.same(await saved(), ['200 yes', '409 yes', 'own'])
})

test('a commitIf that throws rolls back, and its error is the answer', { plugin: { commitIf: () => { throw new Error('a bug in the rule') } } }, async (t, { app, listen, saved, log }) => {
  app.get('/', async (request) => {
    await request.db.query(insert, ['lost'])
    return 'x'
  })
  t.match(await send(await listen()), { status: 500, body: /a bug in the rule/ })
  t.same(await saved(), [])
  t.equal(log.filter(({ err }) => err?.message === 'a bug in the rule').length, 1)
})

test('commitIf cannot save what a failed statement has spoilt', { plugin: { commitIf: () => true } }, async (t, { app, listen, saved }) => {
  app.get('/', async (request) => {
    await request.db.query(insert, ['lost'])
    await request.db.query('SELECT 1 / 0').catch(() => {})
    return 'x'
  })
  t.match(await send(await listen()), { status: 500, body: /TRANSACTION_ABORTED/ })
  t.same(await saved(), [])
})

test('setRollbackOnly() leaves the reply as it is, and nothing is saved', {}, async (t, { app, listen, saved }) => {
  app.post('/', async (request, reply) => {
    await request.db.query(insert, ['dry run'])
    request.db.setRollbackOnly('dry run')
    await request.db.query(insert, ['behind it'])
    return reply.code(201).header('x-dry', 'yes').send({ would: 'do' })
  })
  app.get('/before', async (request) => {
    request.db.setRollbackOnly()
    await request.db.query(insert, ['dry run'])
    return 'x'
  })
  const port = await listen()
  t.match(await send(port, { body: {} }), { status: 201, headers: { 'x-dry': 'yes' }, body: '{"would":"do"}' })
  t.match(await send(port, { path: '/before' }), { status: 200, body: 'x' })
  t.same(await saved(), [])
  t.match(app.db.stats().counters, { committed: 0, rolledBack: 2 })
})

test('setRollbackOnly() wins over commitIf', { plugin: { commitIf: () => true } }, async (t, { app, listen, saved }) => {
  app.get('/', async (request) => {
    await request.db.query(insert, ['dry run'])
    request.db.setRollbackOnly()
    return 'x'
  })
  t.equal((await send(await listen())).status, 200)
  t.same(await saved(), [])
})

test('commitOn \'response\' answers first and commits then', {}, async (t, { app, listen, saved }) => {
  app.get('/fine', { config: { db: { commitOn: 'response' } } }, async (request) => {
    await request.db.query('INSERT INTO slow VALUES ($1, 0.5, NULL)', ['fine'])
    return 'early'
  })
  const port = await listen()
  t.match(await send(port, { path: '/fine' }), { status: 200, body: 'early', complete: true })
  t.match(app.db.stats(), { inUse: 1, counters: { committed: 0 } }, 'COMMIT is still under way')
  while (app.db.stats().inUse > 0) await new Promise((resolve) => setTimeout(resolve, 10))
  t.same(await saved(), ['fine'])
})

test('commitOn \'response\' rolls an error back, and logs a COMMIT that fails', { plugin: { commitOn: 'response' } }, async (t, { app, listen, saved, log }) => {
  app.get('/error', async (request) => {
    await request.db.query(insert, ['lost'])
    throw new Error('no')
  })
  app.get('/swallowed', async (request) => {
    await request.db.query('SELECT 1 / 0').catch(() => {})
    return 'x'
  })
  app.get('/refused', async (request) => {
    await request.db.query('INSERT INTO unique_note VALUES ($1), ($1)', ['twice'])
    return 'early'
  })
  const port = await listen()
  t.equal((await send(port, { path: '/error' })).status, 500)
  t.match(await send(port, { path: '/swallowed' }), { status: 500, body: /TRANSACTION_ABORTED/ })
  t.match(await send(port, { path: '/refused' }), { status: 200, body: 'early' }, 'what this mode costs')
  while (app.db.stats().inUse > 0) await new Promise((resolve) => setTimeout(resolve, 10))
  t.equal(log.filter(({ err }) => err?.code === 'FST_PG_SCOPE_CONSTRAINT_VIOLATION').length, 1)
  t.same(await saved(), [])
})

test('under inject() the same rules hold', {}, async (t, { app, saved }) => {
  app.get('/fine', async (request) => {
    await request.db.query(insert, ['fine'])
    return 'x'
  })
  app.get('/response', { config: { db: { commitOn: 'response' } } }, async (request) => {
    await request.db.query(insert, ['response'])
    return 'x'
  })
  app.get('/throw', async (request) => {
    await request.db.query(insert, ['lost'])
    throw new Error('no')
  })
  t.equal((await app.inject('/fine')).statusCode, 200)
  t.same(await saved(), ['fine'])
  t.equal((await app.inject('/response')).statusCode, 200)
  t.equal((await app.inject('/throw')).statusCode, 500)
  while (app.db.stats().inUse > 0) await new Promise((resolve) => setTimeout(resolve, 10))
  t.same(await saved(), ['fine', 'response'])
})
