// Which handlers run again: with several engines, on WebSockets, and on routes that the plugin does not know.
import websocket from '@fastify/websocket'
import { once } from 'node:events'
import type { FastifyRequest } from 'fastify'
import t from 'tap'
import WebSocket from 'ws'
import { bankCases } from './bank.ts'
import { conflict, insert, late, prepareConflicts } from './conflicts.ts'
import type { Session } from '../../../lib/index.ts'
import { pgScope } from '../../../harness/plugin.ts'
import { send } from '../../../harness/http-client.ts'

const { postgres, test } = await bankCases(t)
await prepareConflicts(postgres)
const retry = { attempts: 3, minDelay: 1 }
const reporting = (request: FastifyRequest): Session => (request as unknown as { reporting: Session }).reporting

test('each of two engines runs the handler again for its own session, with its own policy', { plugin: { retry } }, async (t, { app, plugin, listen, entries }) => {
  await app.register(pgScope, { ...plugin, retry: { attempts: 5, minDelay: 1 }, decorator: 'reporting' })
  const fails: Record<string, (db: Session) => Promise<unknown>> = {
    statement: (db) => db.query(conflict),
    commit: async (db) => { await db.query(late); await db.query(insert, ['lost']) }
  }
  for (const [engine, sessionOf, attempts] of [['db', (request: FastifyRequest) => request.db, 3], ['reporting', reporting, 5]] as const) {
    for (const [where, fail] of Object.entries(fails)) {
      const seen: number[] = []
      app.post(`/${engine}/${where}`, async (request) => {
        const db = sessionOf(request)
        seen.push(db.attempt)
        if (db.attempt < attempts) await fail(db)
        await db.query(insert, [`${engine} ${where} ${db.attempt}`])
        return 'ok'
      })
      app.post(`/${engine}/${where}/always`, async (request) => {
        seen.push(sessionOf(request).attempt)
        await fail(sessionOf(request))
        return 'ok'
      })
      app.addHook('onClose', async () => {
        const all = Array.from({ length: attempts }, (_, n) => n + 1)
        t.same(seen, [...all, ...all], `${engine}: ${where}`)
      })
    }
  }
  const errors: unknown[] = []
  app.addHook('onError', async (_request, _reply, error) => { errors.push(error) })
  const port = await listen()
  for (const [engine, attempts] of [['db', 3], ['reporting', 5]] as const) {
    for (const where of Object.keys(fails)) {
      t.equal((await send(port, { method: 'POST', path: `/${engine}/${where}` })).status, 200)
      t.equal((await send(port, { method: 'POST', path: `/${engine}/${where}/always` })).status, 503)
      t.match(errors.at(-1), { attempt: attempts, notRetried: new RegExp(`last of ${attempts}`) })
    }
  }
  t.same(await entries(), ['db commit 3', 'db statement 3', 'reporting commit 5', 'reporting statement 5'])
  await app.close()
})

for (const both of [true, false]) {
  test(`work of a second engine, ${both ? 'with' : 'without'} the session of the first one, is not done twice`, { plugin: { retry } }, async (t, { app, plugin, listen, entries, log }) => {
    await app.register(pgScope, { ...plugin, retry: false, decorator: 'reporting', commitIf: () => true })
    let calls = 0
    app.post('/', async (request) => {
      calls++
      await reporting(request).query(insert, ['report'])
      if (both) await request.db.query(conflict)
      else await app.db.scope((db) => db.query(conflict), { retry: false })
    })
    t.equal((await send(await listen(), { method: 'POST' })).status, 503)
    t.equal(calls, 1)
    t.same(await entries(), ['report'])
    if (both) t.ok(log.some(({ err }) => /another database/.test(err?.notRetried ?? '')))
  })
}

for (const order of ['before', 'after'] as const) {
  test(`a WebSocket works with @fastify/websocket registered ${order} this plugin`, { register: false }, async (t, { app, plugin, listen }) => {
    if (order === 'before') await app.register(websocket)
    await app.register(pgScope, { ...plugin, retry })
    if (order === 'after') await app.register(websocket)
    app.get('/', { websocket: true }, (socket) => socket.send('one'))
    const attempts: number[] = []
    app.route({
      method: 'GET',
      url: '/both',
      handler: async (request) => {
        attempts.push(request.db.attempt)
        if (request.db.attempt === 1) await request.db.query(conflict)
        return 'plain'
      },
      wsHandler: (socket) => socket.send('socket')
    })
    const port = await listen()
    const message = async (path: string): Promise<string> => {
      const client = new WebSocket(`ws://127.0.0.1:${port}${path}`)
      t.teardown(() => client.terminate())
      const [data] = await once(client, 'message')
      client.close()
      await once(client, 'close')
      return String(data)
    }
    t.equal(await message('/'), 'one')
    t.equal(await message('/both'), 'socket')
    t.match(await send(port, { path: '/both' }), { status: 200, body: 'plain' })
    t.same(attempts, [1, 2])
  })
}

for (const where of ['statement', 'COMMIT'] as const) {
  test(`where the plugin cannot run the handler again, the error of ${where} says why`, { register: false }, async (t, { app, plugin, listen, log }) => {
    let calls = 0
    const handler = async (request: FastifyRequest): Promise<string> => {
      calls++
      await request.db.query(where === 'COMMIT' ? late : conflict)
      await request.db.query(insert, ['lost'])
      return 'ok'
    }
    app.post('/early', { config: { db: { retry } } }, handler)
    await app.register(pgScope, { ...plugin, retry })
    app.setNotFoundHandler((request, reply) => { reply.code(200); return handler(request) })
    const port = await listen()
    for (const path of ['/early', '/none']) t.equal((await send(port, { method: 'POST', path })).status, 503)
    t.equal(calls, 2)
    const errors = log.filter(({ err }) => err !== undefined)
    t.same(errors.map(({ err }) => /404 handler/.test(err!.notRetried ?? '')), [true, true])
  })
}

test('a HEAD request of a route with onAbort \'commit\' has the attempts of its GET route', {}, async (t, { app, listen }) => {
  let calls = 0
  app.get('/', { config: { db: { retry, onAbort: 'commit' } } }, async (request) => {
    calls++
    await request.db.query(conflict)
  })
  t.equal((await send(await listen(), { method: 'HEAD' })).status, 503)
  t.equal(calls, 3)
})
