import t from 'tap'
import pgScope from '../../../harness/plugin.ts'
import { gate, outcomeCases } from './outcome-cases.ts'
import { hangUp, send } from '../../../harness/http-client.ts'
import { waitFor } from '../../../harness/wait-for.ts'

const { test } = await outcomeCases(t)
const insert = 'INSERT INTO note VALUES ($1)'

for (const awaited of [true, false]) {
  test(`a route that was declared before the plugin was registered ${awaited ? 'with' : 'without'} await follows the same rules`, { register: false }, async (t, { app, plugin, listen, saved }) => {
    app.get('/fine', async (request) => {
      await request.db.query(insert, ['fine'])
      return 'x'
    })
    app.get('/throw', async (request) => {
      await request.db.query(insert, ['throw'])
      throw new Error('no')
    })
    app.get('/status', async (request, reply) => {
      await request.db.query(insert, ['status'])
      return reply.code(409).send('x')
    })
    app.get('/commit', async (request) => {
      await request.db.query('INSERT INTO unique_note VALUES ($1), ($1)', ['twice'])
      return 'x'
    })
    app.get('/dry', { config: { db: { commitIf: () => false } } }, async (request) => {
      await request.db.query(insert, ['dry'])
      return 'x'
    })
    if (awaited) await app.register(pgScope, plugin)
    else app.register(pgScope, plugin)
    const port = await listen()
    for (const [path, status] of [['/fine', 200], ['/throw', 500], ['/status', 409], ['/commit', 409], ['/dry', 200], ['/dry', 200]] as const) {
      t.equal((await send(port, { path })).status, status, path)
    }
    t.same(await saved(), ['fine'])
  })
}

test('a route that was declared before the plugin, whose client hangs up, is rolled back', { register: false }, async (t, { app, plugin, listen, saved }) => {
  const reached = gate()
  app.get('/', async (request) => {
    await request.db.query(insert, ['lost'])
    reached.open()
    await request.db.query('SELECT pg_sleep(60)')
  })
  await app.register(pgScope, plugin)
  await hangUp(await listen(), {}, { after: reached.opened })
  await waitFor(() => app.db.stats().inUse === 0)
  t.same(await saved(), [])
})

test('a session touched by an onRequest hook that was added before the plugin settles like any other', { register: false }, async (t, { app, plugin, listen, saved, busy }) => {
  app.addHook('onRequest', async (request) => {
    await request.db.query(insert, [request.url])
    if (request.url === '/hook-throws') throw new Error('no')
    if (request.url === '/hook-sleeps') await request.db.query('SELECT pg_sleep(60)')
  })
  app.get('/before', async () => 'x')
  await app.register(pgScope, plugin)
  app.get('/fine', async () => 'x')
  app.get('/throw', async () => { throw new Error('no') })
  app.get('/hook-throws', async () => 'never')
  app.get('/hook-sleeps', async () => 'never')
  const port = await listen()
  t.equal((await send(port, { path: '/before' })).status, 200)
  t.equal((await send(port, { path: '/fine' })).status, 200)
  t.equal((await send(port, { path: '/throw' })).status, 500)
  t.equal((await send(port, { path: '/hook-throws' })).status, 500)
  t.equal((await send(port, { path: '/nowhere' })).status, 404)
  await hangUp(port, { path: '/hook-sleeps' }, { after: waitFor(async () => (await busy()).some((text) => text.includes('pg_sleep'))) })
  await waitFor(async () => app.db.stats().inUse === 0 && (await busy()).length === 0)
  t.same(await saved(), ['/before', '/fine'])
})

test('a session touched before the plugin\'s hooks on a keep-alive socket, again and again', { register: false }, async (t, { app, plugin, listen, saved, log }) => {
  app.addHook('onRequest', async (request) => { await request.db.query(insert, [request.url]) })
  await app.register(pgScope, plugin)
  app.get<{ Params: { n: string } }>('/:n', async (request) => {
    if (Number(request.params.n) % 2 === 1) throw new Error('no')
    return 'x'
  })
  const port = await listen()
  let socket
  for (let n = 0; n < 16; n++) {
    const response: Awaited<ReturnType<typeof send>> = await send(port, { path: `/${n}`, keepAlive: true, ...(socket && { socket }) })
    t.equal(response.status, n % 2 === 0 ? 200 : 500)
    socket = response.socket
  }
  socket!.destroy()
  t.equal((await saved()).length, 8)
  t.notOk(log.some(({ msg }) => /hijacked|MaxListeners/.test(msg)))
})

test('a 404 handler: a success commits, an error rolls back', {}, async (t, { app, listen, saved }) => {
  app.setNotFoundHandler(async (request, reply) => {
    await request.db.query(insert, [request.url])
    if (request.url === '/throw') throw new Error('no')
    if (request.url === '/commit') await request.db.query('INSERT INTO unique_note VALUES ($1), ($1)', ['twice'])
    return reply.code(request.url === '/404' ? 404 : 200).send('fallback')
  })
  const port = await listen()
  t.match(await send(port, { path: '/page' }), { status: 200, body: 'fallback' })
  t.match(await send(port, { path: '/404' }), { status: 404, body: 'fallback' })
  t.equal((await send(port, { path: '/throw' })).status, 500)
  t.equal((await send(port, { path: '/commit' })).status, 409)
  t.same(await saved(), ['/page'])
})

test('reply.callNotFound() rolls back what the handler did', {}, async (t, { app, listen, saved }) => {
  app.get('/', async (request, reply) => {
    await request.db.query(insert, ['lost'])
    return reply.callNotFound()
  })
  t.equal((await send(await listen())).status, 404)
  t.same(await saved(), [])
})

test('the 404 of a route that touched the session in a hook is rolled back', {}, async (t, { app, listen, saved }) => {
  app.addHook('preHandler', async (request) => { await request.db.query(insert, ['lost']) })
  t.equal((await send(await listen(), { path: '/nowhere' })).status, 404)
  t.same(await saved(), [])
})

test('a HEAD request settles like its GET', {}, async (t, { app, listen, saved }) => {
  app.get<{ Params: { how: string } }>('/:how', async (request) => {
    await request.db.query(insert, [`${request.method} ${request.params.how}`])
    if (request.params.how === 'throw') throw new Error('no')
    return { x: 1 }
  })
  app.head('/own/head', async (request, reply) => {
    await request.db.query(insert, ['own'])
    return reply.send()
  })
  const port = await listen()
  t.match(await send(port, { method: 'HEAD', path: '/fine' }), { status: 200, headers: { 'content-length': '7' }, body: '' })
  t.equal((await send(port, { method: 'HEAD', path: '/throw' })).status, 500)
  t.equal((await send(port, { method: 'HEAD', path: '/own/head' })).status, 200)
  t.same(await saved(), ['HEAD fine', 'own'])
})

test('a HEAD request for a route that answers with db.stream() gives its connection back', {}, async (t, { app, listen }) => {
  app.get('/', async (request) => request.db.stream('SELECT generate_series(1, 10000) AS n'))
  t.match(await send(await listen(), { method: 'HEAD' }), { status: 200, body: '' })
})

test('two engines in one app: each has its own session for a request, and both settle', { register: false }, async (t, { app, plugin, listen, saved }) => {
  await app.register(pgScope, plugin)
  await app.register(pgScope, { ...plugin, decorator: 'reporting', pool: { max: 2 } })
  const reporting = (request: unknown) => (request as { reporting: typeof app.db }).reporting
  app.get<{ Params: { how: string } }>('/:how', { config: { db: {}, reporting: { commitIf: (_request: unknown, reply: { statusCode: number }) => reply.statusCode !== 500 } } as object }, async (request, reply) => {
    const { how } = request.params
    await Promise.all([
      request.db.query(insert, [`${how} db`]),
      reporting(request).query(insert, [`${how} reporting`])
    ])
    if (how === 'throw') throw new Error('no')
    return reply.code(how === 'status' ? 409 : 200).send('x')
  })
  app.get('/only/reporting', async (request) => {
    await reporting(request).query(insert, ['only'])
    return 'x'
  })
  const port = await listen()
  t.equal((await send(port, { path: '/fine' })).status, 200)
  t.equal((await send(port, { path: '/throw' })).status, 500)
  t.equal((await send(port, { path: '/status' })).status, 409)
  t.equal((await send(port, { path: '/only/reporting' })).status, 200)
  t.same(await saved(), ['fine db', 'fine reporting', 'only', 'status reporting'])
  t.equal(app.db.stats().max, 10)
  t.equal((app as unknown as { reporting: typeof app.db }).reporting.stats().max, 2)
})
