import fp from 'fastify-plugin'
import t from 'tap'
import pgScope from '../../../harness/plugin.ts'
import { outcomeCases } from './outcome-cases.ts'
import { send } from '../../../harness/http-client.ts'

const { test } = await outcomeCases(t)
const insert = 'INSERT INTO note VALUES ($1)'
const thrower = (times: number) => async () => { if (times-- > 0) throw new Error('an onSend hook') }

for (const [how, times] of [['once', 1], ['always', Infinity]] as const) {
  test(`an onSend hook before ours that throws ${how}: an error is read, nothing is saved`, { register: false }, async (t, { app, plugin, listen, saved }) => {
    app.addHook('onSend', thrower(times))
    await app.register(pgScope, plugin)
    app.get('/', async (request) => {
      await request.db.query(insert, ['lost'])
      return 'x'
    })
    t.match(await send(await listen()), { status: 500, body: /an onSend hook/, complete: true })
    t.same(await saved(), [])
  })

  test(`an onSend hook registered after the plugin that throws ${how}: an error is read, nothing is saved`, {}, async (t, { app, listen, saved }) => {
    app.addHook('onSend', thrower(times))
    app.get('/', async (request) => {
      await request.db.query(insert, ['lost'])
      return 'x'
    })
    t.match(await send(await listen()), { status: 500, body: /an onSend hook/, complete: true })
    t.same(await saved(), [])
  })

  test(`an onSend hook of the route that throws ${how}: an error is read, nothing is saved`, {}, async (t, { app, listen, saved }) => {
    app.get('/', { onSend: thrower(times) }, async (request) => {
      await request.db.query(insert, ['lost'])
      return 'x'
    })
    t.match(await send(await listen()), { status: 500, body: /an onSend hook/, complete: true })
    t.same(await saved(), [])
  })

  for (const [way, append] of [
    ['pushed', (route: { onSend?: any }, hook: unknown) => { route.onSend = [...[route.onSend ?? []].flat(), hook] }],
    ['pushed in place', (route: { onSend?: any }, hook: unknown) => { Array.isArray(route.onSend) ? route.onSend.push(hook) : route.onSend = hook }],
    ['put in place of all', (route: { onSend?: any }, hook: unknown) => { route.onSend = hook }]
  ] as const) {
    test(`an onSend hook ${way} by a later onRoute hook, which throws ${how}: an error is read, nothing is saved`, {}, async (t, { app, listen, saved }) => {
      app.addHook('onRoute', (route) => append(route, thrower(times)))
      app.get('/', async (request) => {
        await request.db.query(insert, ['lost'])
        return 'x'
      })
      t.match(await send(await listen()), { status: 500, body: /an onSend hook/, complete: true })
      t.same(await saved(), [])
    })
  }

  test(`a preSerialization hook that throws ${how}: an error is read, nothing is saved`, {}, async (t, { app, listen, saved }) => {
    app.addHook('preSerialization', thrower(times))
    app.get('/', async (request) => {
      await request.db.query(insert, ['lost'])
      return { x: 1 }
    })
    t.match(await send(await listen()), { status: 500, complete: true })
    t.same(await saved(), [])
  })
}

test('an answer that its schema cannot serialize is an error, and nothing is saved', {}, async (t, { app, listen, saved }) => {
  app.get('/', { schema: { response: { 200: { type: 'object', required: ['id'], properties: { id: { type: 'integer' } } } } } }, async (request) => {
    await request.db.query(insert, ['lost'])
    return { other: 1 }
  })
  t.equal((await send(await listen())).status, 500)
  t.same(await saved(), [])
})

test('an onSend hook that changes the status decides the outcome', {}, async (t, { app, listen, saved }) => {
  app.addHook('onSend', async (request, reply) => { reply.code(request.url === '/up' ? 200 : 500) })
  app.get('/up', async (request, reply) => {
    await request.db.query(insert, ['up'])
    return reply.code(404).send('x')
  })
  app.get('/down', async (request) => {
    await request.db.query(insert, ['down'])
    return 'x'
  })
  const port = await listen()
  t.equal((await send(port, { path: '/up' })).status, 200)
  t.equal((await send(port, { path: '/down' })).status, 500)
  t.same(await saved(), ['up'])
})

test('an onSend hook may use the session: it is part of the transaction', {}, async (t, { app, listen, saved }) => {
  app.addHook('onSend', async (request) => { await request.db.query(insert, ['onSend']) })
  app.get('/', async (request) => {
    await request.db.query(insert, ['handler'])
    return 'x'
  })
  app.get('/untouched', async () => 'x')
  const port = await listen()
  t.equal((await send(port)).status, 200)
  t.equal((await send(port, { path: '/untouched' })).status, 200)
  t.same(await saved(), ['handler', 'onSend', 'onSend'])
})

test('a throw in onResponse comes after COMMIT and changes nothing', {}, async (t, { app, listen, saved }) => {
  app.addHook('onResponse', async () => { throw new Error('too late') })
  app.get('/', async (request) => {
    await request.db.query(insert, ['kept'])
    return 'x'
  })
  app.get('/response', { config: { db: { commitOn: 'response' } } }, async (request) => {
    await request.db.query(insert, ['response'])
    return 'x'
  })
  const port = await listen()
  t.equal((await send(port)).status, 200)
  t.equal((await send(port, { path: '/response' })).status, 200)
  while (app.db.stats().inUse > 0) await new Promise((resolve) => setTimeout(resolve, 10))
  t.same(await saved(), ['kept', 'response'])
})

test('a validation error rolls back what an onRequest hook has done', {}, async (t, { app, listen, saved }) => {
  app.addHook('onRequest', async (request) => { await request.db.query(insert, ['onRequest']) })
  app.post('/', { schema: { body: { type: 'object', required: ['n'], properties: { n: { type: 'integer' } } } } }, async () => 'x')
  const port = await listen()
  t.equal((await send(port, { body: { n: 'none' } })).status, 400)
  t.same(await saved(), [])
  t.equal((await send(port, { body: '{broken', headers: { 'content-type': 'application/json' } })).status, 400)
  t.same(await saved(), [])
  t.equal((await send(port, { body: { n: 1 } })).status, 200)
  t.same(await saved(), ['onRequest'])
})

test('a hook that answers in the handler\'s place settles the session like a handler', {}, async (t, { app, listen, saved }) => {
  app.addHook('preHandler', async (request, reply) => {
    await request.db.query(insert, [request.url])
    return reply.code(request.url === '/fine' ? 202 : 401).send('by a hook')
  })
  app.get('/fine', async () => 'never')
  app.get('/denied', async () => 'never')
  const port = await listen()
  t.match(await send(port, { path: '/fine' }), { status: 202, body: 'by a hook' })
  t.match(await send(port, { path: '/denied' }), { status: 401, body: 'by a hook' })
  t.same(await saved(), ['/fine'])
})

test('the session in a preHandler hook of an encapsulated plugin is the handler\'s', {}, async (t, { app, listen, saved }) => {
  await app.register(async (child) => {
    child.addHook('preHandler', async (request) => { await request.db.query(insert, ['hook']) })
    child.addHook('onSend', async (request) => { await request.db.query(insert, ['child\'s onSend']) })
    child.get('/fine', async (request) => (await request.db.query('SELECT text FROM note')).rows)
    child.get('/throw', async () => { throw new Error('no') })
  }, { prefix: '/child' })
  await app.register(fp(async (sibling) => {
    sibling.get('/sibling', async (request) => (await request.db.query('SELECT count(*)::int AS n FROM note')).rows)
  }))
  const port = await listen()
  t.match(await send(port, { path: '/child/fine' }), { status: 200, body: '[{"text":"hook"}]' })
  t.equal((await send(port, { path: '/child/throw' })).status, 500)
  t.equal((await send(port, { path: '/sibling' })).body, '[{"n":2}]')
  t.same(await saved(), ['child\'s onSend', 'hook'])
})
