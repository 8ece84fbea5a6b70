// Replies that stay open for hours: WebSockets, server-sent events and other hijacked replies.
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import websocket from '@fastify/websocket'
import type { FastifyInstance } from 'fastify'
import t from 'tap'
import WebSocket from 'ws'
import { openRequest, send } from '../../../harness/http-client.ts'
import { waitFor } from '../../../harness/wait-for.ts'
import { type LogLine, outcomeCases } from './outcome-cases.ts'

const { test } = await outcomeCases(t)
let asked = 0
const insert = 'INSERT INTO note VALUES ($1)'
const warnings = (log: LogLine[]): string[] => log.filter(({ level }) => level >= 40).map(({ msg }) => msg)

/** Sends its first message after the handler has run: an object as JSON. */
async function converse (port: number, path = '/'): Promise<{ socket: WebSocket, first: any }> {
  const socket = new WebSocket(`ws://127.0.0.1:${port}${path}`)
  const [message] = await once(socket, 'message')
  return { socket, first: JSON.parse(String(message)) }
}

async function refused (port: number, path = '/'): Promise<number> {
  const socket = new WebSocket(`ws://127.0.0.1:${port}${path}`)
  socket.on('error', () => {})
  const [, response] = await once(socket, 'unexpected-response')
  socket.terminate()
  return response.statusCode
}

/** Hooks that use the session, as authentication does. */
function authenticate (app: FastifyInstance): void {
  app.addHook('onRequest', async (request) => {
    await request.db.query('SELECT 1')
    if (request.url !== '/read') await request.db.query(insert, [request.url])
  })
}

const orders: [string, (app: FastifyInstance) => Promise<void>][] = [
  ['registered before the plugin', async (app) => { await app.register(websocket) }],
  ['registered after it', async (app) => { await app.register(websocket) }]
]

for (const [order, register] of orders) {
  const isBefore = order.includes('before')
  test(`a WebSocket holds no connection, and what its hooks did is committed before it opens (${order})`, {
    register: !isBefore, plugin: { pool: { max: 2 } }
  }, async (t, { app, plugin, listen, saved, log }) => {
    await register(app)
    if (isBefore) await app.register((await import('../../../harness/plugin.ts')).default, plugin)
    authenticate(app)
    app.get('/*', { websocket: true }, (socket, request) => {
      request.db.query(insert, ['late']).then(
        () => socket.send('{}'), (error) => socket.send(JSON.stringify({ code: error.code, message: error.details })))
    })
    const port = await listen()
    for (let i = 0; i < 5; i++) {
      const { socket, first } = await converse(port, `/${i}`)
      t.equal(first.code, 'FST_PG_SCOPE_SESSION_CLOSED')
      t.match(first.message, /app\.db\.scope\(/)
      t.teardown(() => socket.terminate())
    }
    t.equal(app.db.stats().inUse, 0, 'five sockets are open, and two connections are enough')
    t.same(await saved(), ['/0', '/1', '/2', '/3', '/4'])
    t.same(warnings(log), [])
  })
}

test('a WebSocket whose COMMIT fails is refused with the error', {}, async (t, { app, listen, saved }) => {
  await app.register(websocket)
  app.addHook('preHandler', async (request) => {
    await request.db.query('INSERT INTO unique_note VALUES ($1), ($1)', ['twice'])
  })
  app.get('/', { websocket: true }, (socket) => socket.send('{}'))
  t.equal(await refused(await listen()), 409)
  t.same(await saved(), [])
})

test('a WebSocket whose hook has caught a failure is refused, and nothing is saved', {}, async (t, { app, listen, saved }) => {
  await app.register(websocket)
  app.addHook('preHandler', async (request) => {
    await request.db.query(insert, ['lost'])
    await request.db.query('SELECT 1 / 0').catch(() => {})
  })
  app.get('/', { websocket: true }, (socket) => socket.send('{}'))
  t.equal(await refused(await listen()), 500)
  t.same(await saved(), [])
})

test('a hook that rejects a WebSocket rolls its work back', {}, async (t, { app, listen, saved }) => {
  await app.register(websocket)
  app.addHook('preHandler', async (request, reply) => {
    await request.db.query(insert, ['lost'])
    return reply.code(401).send({})
  })
  app.get('/', { websocket: true }, (socket) => socket.send('{}'))
  t.equal(await refused(await listen()), 401)
  t.same(await saved(), [])
})

test('a socket whose hooks did not use the session is pointed to app.db.scope(), which works', {}, async (t, { app, listen, saved, log }) => {
  await app.register(websocket)
  app.get('/', { websocket: true }, async (socket, request) => {
    const { code } = await request.db.query('SELECT 1').then(() => ({ code: 'none' }), (error) => error)
    await app.db.scope((db) => db.query(insert, ['event']))
    socket.send(JSON.stringify({ code }))
  })
  const { socket, first } = await converse(await listen())
  t.equal(first.code, 'FST_PG_SCOPE_SESSION_CLOSED')
  t.same(await saved(), ['event'])
  t.equal(app.db.stats().inUse, 0)
  socket.terminate()
  t.same(warnings(log), [])
})

test('a route that is both: a plain request commits as usual', {}, async (t, { app, listen, saved }) => {
  await app.register(websocket)
  authenticate(app)
  app.route({ method: 'GET', url: '/', wsHandler: (socket) => socket.send('{}'), handler: async () => 'plain' })
  const port = await listen()
  t.match(await send(port), { status: 200, body: 'plain' })
  const { socket } = await converse(port)
  socket.terminate()
  t.same(await saved(), ['/', '/'])
})

test('an upgrade by hand commits what the hooks did', {}, async (t, { app, listen, saved }) => {
  authenticate(app)
  app.server.on('upgrade', (request, socket) => {
    socket.end('HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n')
  })
  app.get('/', (request, reply) => { reply.hijack().raw.end() })
  const port = await listen()
  // As @fastify/websocket does it: the request passes through the router.
  const { IncomingMessage, ServerResponse } = await import('node:http')
  const { Socket } = await import('node:net')
  const raw = Object.assign(new IncomingMessage(new Socket()), { method: 'GET', url: '/', upgrade: true, headers: { host: 'x' } })
  app.routing(raw, new ServerResponse(raw) as never)
  await waitFor(async () => (await saved()).length === 1)
  t.ok(port > 0)
  t.equal(app.db.stats().inUse, 0)
})

/** A reply of server-sent events that ends when the client leaves. */
const events = (reply: { hijack (): { raw: NodeJS.WritableStream & { flushHeaders (): void } } }): void => {
  const { raw } = reply.hijack()
  raw.flushHeaders()
  raw.write('data: 1\n\n')
}

test('server-sent events behind a hook that only reads hold no connection', { plugin: { pool: { max: 2 } } }, async (t, { app, listen, log }) => {
  authenticate(app)
  app.get('/read', (_request, reply) => events(reply as never))
  const port = await listen()
  const open = Array.from({ length: 2 }, () => openRequest(port, { path: '/read' }))
  await waitFor(() => open.every(({ read }) => read().body.includes('data: 1')))
  await waitFor(() => app.db.stats().inUse === 0)
  t.same(warnings(log), [])
  // Fastify waits for open replies as it closes.
  for (const { socket } of open) socket.destroy()
})

test('later statements of such a reply begin a transaction, and commit() saves', {}, async (t, { app, listen, saved, log }) => {
  app.get('/', async (request, reply) => {
    await request.db.query('SELECT 1')
    events(reply as never)
    await waitFor(() => app.db.stats().inUse === 0)
    await request.db.query(insert, ['first'])
    await sleep(2300)
    await request.db.query(insert, ['second'])
    await request.db.commit()
    reply.raw.end('data: saved\n\n')
  })
  t.match((await send(await listen())).body, /saved/)
  t.same(await saved(), ['first', 'second'], 'a transaction that wrote something is left alone')
  t.match(warnings(log), [/hijacked reply holds a connection/])
})

const kept: [string, (db: import('../../../types/session.ts').Session) => Promise<unknown>][] = [
  ['a setting', (db) => db.query("SELECT set_config('app.tenant', 'a', true)")],
  ['SET LOCAL', (db) => db.query('SET LOCAL work_mem = 100')],
  ['a lock', (db) => db.query('SELECT pg_advisory_xact_lock(1)')],
  ['LOCK TABLE', (db) => db.query('LOCK TABLE note IN SHARE MODE')],
  ['rows locked', (db) => db.query('SELECT FROM locked FOR UPDATE')],
  ['a snapshot', (db) => db.query('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ').then(() => db.query('SELECT 1'))],
  ['NOTIFY', (db) => db.query('NOTIFY news')],
  ['a hook', async (db) => { db.afterCommit(() => {}); await db.query('SELECT 1') }],
  ['a savepoint', async (db) => { await db.query('SELECT 1'); await db.savepoint() }]
]

test('a hijacked reply keeps a transaction whose end would lose something', {}, async (t, { app, listen }) => {
  await app.db.query('CREATE TABLE IF NOT EXISTS locked AS SELECT 1 AS n')
  for (const [i, [, use]] of kept.entries()) {
    app.get(`/${i}`, async (request, reply) => {
      await use(request.db)
      const { rows: [before] } = await request.db.query('SELECT now() AS began')
      events(reply as never)
      await sleep(2300)
      const { rows: [after] } = await request.db.query('SELECT now() AS began')
      reply.raw.end(String(+before.began === +after.began))
    })
  }
  const port = await listen()
  await Promise.all(kept.map(async ([name], i) => {
    t.match((await send(port, { path: `/${i}` })).body, /true$/, name)
  }))
})

test('a statement that is sent while the server is asked is never committed by that', {}, async (t, { app, listen, saved }) => {
  app.get('/', async (request, reply) => {
    await request.db.query('SELECT 1')
    reply.hijack()
    reply.raw.flushHeaders()
    const { db } = request
    // The question is sent about a second after the first statement. A busy process reads both answers at once.
    for (let i = 0; i < 30; i++) {
      await sleep(50)
      if (db.state === 'idle') continue
      const asked = db.query('SELECT 2')
      const until = performance.now() + 20
      setImmediate(() => { while (performance.now() < until); })
      await asked
    }
    await db.query(insert, ['not asked to be saved'])
    const written = db.query(insert, ['nor this'])
    const until = performance.now() + 1500
    await written
    while (performance.now() < until) await sleep(10)
    reply.raw.end('end')
  })
  t.match(await send(await listen()), { status: 200, body: 'end' })
  await waitFor(() => app.db.stats().inUse === 0)
  t.same(await saved(), [])
})

test('a hijacked reply with work that is not committed is bounded by idleInTransactionTimeout', {
  plugin: { idleInTransactionTimeout: 2500 }
}, async (t, { app, listen, saved }) => {
  app.get('/', async (request, reply) => {
    await request.db.query(insert, ['lost'])
    events(reply as never)
  })
  const { socket } = openRequest(await listen(), {})
  await waitFor(() => app.db.stats().inUse === 1)
  await waitFor(() => app.db.stats().inUse === 0)
  t.notOk(socket.destroyed, 'while the reply is still open')
  socket.destroy()
  t.same(await saved(), [])
})

test('a reply can be hijacked where an inner context has an engine of its own', { register: false }, async (t, { app, plugin, listen }) => {
  const { default: pgScope } = await import('../../../harness/plugin.ts')
  await app.register(async (child) => {
    await child.register(pgScope, { ...plugin, decorator: 'inner' })
    child.get('/', (_request, reply) => { reply.hijack().raw.end('inner') })
  })
  await app.register(pgScope, plugin)
  app.get('/outer', (_request, reply) => { reply.hijack().raw.end('outer') })
  const port = await listen()
  t.match(await send(port), { status: 200, body: 'inner' })
  t.match(await send(port, { path: '/outer' }), { status: 200, body: 'outer' })
})

test('commitIf decides about a WebSocket once', { plugin: { commitIf: () => ++asked > 0 } }, async (t, { app, listen, saved }) => {
  asked = 0
  await app.register(websocket)
  authenticate(app)
  app.get('/', { websocket: true }, (socket) => socket.send('{}'))
  const { socket } = await converse(await listen())
  socket.terminate()
  t.equal(asked, 1)
  t.same(await saved(), ['/'])
})
