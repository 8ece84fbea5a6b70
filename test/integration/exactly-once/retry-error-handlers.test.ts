// Error handlers of routes with `retry`, and what an attempt leaves on the response.
import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import t from 'tap'
import { bankCases, gate } from './bank.ts'
import { conflict, insert, late, prepareConflicts } from './conflicts.ts'
import { pgScope } from '../../../harness/plugin.ts'
import { send } from '../../../harness/http-client.ts'
import { openHttp2Request } from '../../../harness/http2-client.ts'
import { waitFor } from '../../../harness/wait-for.ts'

const { postgres, test } = await bankCases(t)
await prepareConflicts(postgres)
const retry = { attempts: 3, minDelay: 1 }

type ErrorHandler = (error: unknown, request: FastifyRequest, reply: FastifyReply) => unknown
const errorHandlers: Record<string, ErrorHandler> = {
  'a plain error handler': (_error, _request, reply) => { reply.code(409).send('refused') },
  'an error handler that answers later': (_error, _request, reply) => { setTimeout(() => reply.code(409).send('refused'), 30) },
  'an async error handler': async (_error, _request, reply) => { await sleep(10); reply.code(409); return 'refused' },
  'an async error handler that returns the reply': async (_error, _request, reply) => { await sleep(10); return reply.code(409).send('refused') },
  'an error handler that answers twice': async (_error, _request, reply) => {
    reply.code(409).send('refused')
    await sleep(30)
    reply.code(409).send('refused')
  }
}

type Fail = (request: FastifyRequest) => Promise<unknown>
type Handler = (request: FastifyRequest, reply: FastifyReply, fail: Fail) => unknown
/** Ways in which an error of a handler reaches Fastify. */
const handlers: Record<string, Handler> = {
  throws: async (request, _reply, fail) => { await fail(request); return 'ok' },
  'sends it': async (request, reply, fail) => {
    try { await fail(request) } catch (error) { return reply.send(error) }
    return 'ok'
  },
  'sends and throws it': async (request, reply, fail) => {
    await fail(request).catch((error) => { reply.send(error); throw error })
    return 'ok'
  },
  'sends another one': async (request, reply, fail) => {
    try { await fail(request) } catch { return reply.send(new Error('replaced')) }
    return 'ok'
  },
  'sends it in a callback': (request, reply, fail) => {
    fail(request).then(() => reply.send('ok'), (error) => reply.send(error))
  },
  'returns what cannot be serialized': async (request, _reply, fail) => {
    try { await fail(request) } catch { return { toJSON () { throw new Error('not JSON') } } }
    return 'ok'
  }
}
const places = {
  'of the app': (app: FastifyInstance, handle: ErrorHandler, add: (app: FastifyInstance) => void) => { app.setErrorHandler(handle as never); add(app) },
  'of an encapsulated plugin': (app: FastifyInstance, handle: ErrorHandler, add: (app: FastifyInstance) => void) => {
    app.register(async (child) => { child.setErrorHandler(handle as never); add(child) })
  }
}

for (const [kind, handle] of Object.entries(errorHandlers)) {
  for (const [place, set] of Object.entries(places)) {
    if (place === 'of an encapsulated plugin' && kind !== 'an async error handler') continue
    test(`${kind} ${place} answers for the last attempt alone`, { plugin: { retry } }, async (t, { app, listen, entries }) => {
      const calls: unknown[] = []
      let attempts = 0
      const failUntil = (last: number): Fail => async ({ db }) => {
        attempts++
        await db.query(insert, [`attempt ${db.attempt}`])
        if (db.attempt < last) await db.query(conflict)
      }
      set(app, (error, request, reply) => { calls.push(request.url); return handle(error, request, reply) }, (app) => {
        for (const [n, handler] of Object.values(handlers).entries()) {
          app.post(`/second/${n}`, (request, reply) => handler(request, reply, failUntil(2)))
          app.post(`/never/${n}`, (request, reply) => handler(request, reply, failUntil(4)))
        }
      })
      const port = await listen()
      for (const [n, way] of Object.keys(handlers).entries()) {
        t.match(await send(port, { method: 'POST', path: `/second/${n}` }), { status: 200, body: 'ok' }, way)
        t.same([calls.length, attempts], [0, 2], `${way}: run again before the error handler`)
        t.same(await entries(), ['attempt 2'])
        await postgres.query('TRUNCATE entry')
        t.match(await send(port, { method: 'POST', path: `/never/${n}` }), { status: 409, body: 'refused' }, way)
        t.same([calls.length, attempts], [1, 5], `${way}: run three times`)
        t.same(await entries(), [])
        calls.length = attempts = 0
      }
    })
  }
}

test('a conflict outside of the session of the request is repeated before the error handler, too', { plugin: { retry } }, async (t, { app, listen }) => {
  let attempts = 0
  app.setErrorHandler((_error, _request, reply) => { reply.code(409).send('refused') })
  app.post('/', (_request, reply) => {
    const fails = ++attempts < 3
    app.db.scope((db) => db.query(fails ? conflict : 'SELECT 1'), { retry: false }).then(() => reply.send('ok'), (error) => reply.send(error))
  })
  t.match(await send(await listen(), { method: 'POST' }), { status: 200, body: 'ok' })
  t.equal(attempts, 3)
})

test('a decorator of the reply that sends an error is repeated, too', { plugin: { retry } }, async (t, { app, listen }) => {
  app.decorateReply('refuse', function (this: FastifyReply, error: Error) { return this.code(409).send(error) } as never)
  app.decorateReply('refuseLater', async function (this: FastifyReply, error: Error) { await sleep(5); return this.send(error) } as never)
  for (const name of ['refuse', 'refuseLater']) {
    app.post(`/${name}`, async (request, reply) => {
      if (request.db.attempt === 3) return 'ok'
      await request.db.query(conflict).catch(() => {})
      return (reply as unknown as Record<string, (error: Error) => FastifyReply>)[name]!(new Error('replaced'))
    })
  }
  const port = await listen()
  for (const path of ['/refuse', '/refuseLater']) t.match(await send(port, { method: 'POST', path }), { status: 200, body: 'ok' }, path)
})

test('a handler that has sent two responses does not run again', { register: false }, async (t, { app, plugin, listen, entries }) => {
  // The first one is still passing through this hook when the second one is sent.
  const second = gate()
  app.addHook('onSend', async (_request, _reply, payload) => {
    if (payload === 'first') await second.opened
    return payload
  })
  app.setErrorHandler((_error, _request, reply) => { reply.code(409).send('refused') })
  await app.register(pgScope, { ...plugin, retry })
  let attempts = 0
  app.post('/', (request, reply) => {
    attempts++
    reply.send('first')
    request.db.query(insert, [`${attempts}`]).then(() => request.db.query(conflict)).catch((error) => {
      reply.send(error)
      setImmediate(second.open)
    })
  })
  t.match(await send(await listen(), { method: 'POST' }), { status: 409, body: 'refused' })
  t.equal(attempts, 1)
  t.same(await entries(), [])
})

const slow = { attempts: 2, minDelay: 60000, maxDelay: 60000 }

test('a timer of a hook can answer during the delay', { plugin: { retry: slow } }, async (t, { app, listen, log }) => {
  longestDelay(t)
  app.addHook('onRequest', async (_request, reply) => {
    waitFor(() => log.some(({ delay }) => delay !== undefined)).then(() => { reply.code(503).send() })
  })
  let attempts = 0
  app.post('/', async (request) => { attempts++; await request.db.query(conflict) })
  t.match(await send(await listen(), { method: 'POST' }), { status: 503, body: '' })
  t.equal(attempts, 1)
})

test('no attempt begins while an error handler answers for handlerTimeout', { plugin: { retry: { attempts: 2, minDelay: 300, maxDelay: 300 } } }, async (t, { app, listen, entries, log }) => {
  longestDelay(t)
  let attempts = 0
  app.setErrorHandler(async (error: Error & { code?: string }, _request, reply) => {
    if (error.code === 'FST_ERR_HANDLER_TIMEOUT') await waitFor(() => log.some(({ err }) => err?.code === '40001' && err.notRetried !== undefined), { timeout: 500 }).catch(() => {})
    reply.code(200)
    return error.message
  })
  app.post('/', { handlerTimeout: 100 }, async (request) => {
    attempts++
    await request.db.query(insert, [`${attempts}`])
    if (attempts === 1) await request.db.query(conflict)
  })
  await send(await listen(), { method: 'POST' })
  t.equal(attempts, 1)
  t.same(await entries(), [])
})

const protocols = {
  'HTTP/1.1': { fastify: {}, request: (port: number, path: string) => send(port, { method: 'POST', path }) },
  'HTTP/2': { fastify: { http2: true } as object, request: (port: number, path: string) => openHttp2Request(port, { method: 'POST', path }).response }
}
for (const [protocol, { fastify, request }] of Object.entries(protocols)) {
  test(`${protocol}: 14 attempts leave no listener each on the response`, { fastify, plugin: { retry: { attempts: 14, minDelay: 0 } } }, async (t, { app, listen }) => {
    const warnings: Error[] = []
    const warned = (warning: Error): void => { warnings.push(warning) }
    process.on('warning', warned)
    t.teardown(() => process.off('warning', warned))
    type Ending = (request: FastifyRequest, reply: FastifyReply, fail: () => Promise<unknown>) => unknown
    const handlers: Record<string, Ending> = {
      throws: async (_request, _reply, fail) => { await fail(); return 'ok' },
      returns: async (_request, reply, fail) => { await fail(); return reply.send('ok') },
      sends: async (_request, reply, fail) => fail().then(() => reply.send('ok'), (error) => reply.send(error)),
      nothing: async (_request, reply, fail) => { await fail().catch(() => {}); reply.send('ok') },
      callback: (_request, reply, fail) => { fail().then(() => reply.send('ok'), (error) => reply.send(error)) }
    }
    let listeners: number[] = []
    for (const [name, handler] of Object.entries(handlers)) {
      for (const [where, statement] of [['statement', conflict], ['commit', late]] as const) {
        app.post(`/${name}/${where}`, (request, reply) => {
          const { db } = request
          listeners.push(reply.raw.listenerCount('close') + request.raw.listenerCount('close'))
          return handler(request, reply, async () => {
            if (db.attempt < 14) await db.query(statement)
            await db.query(insert, ['x'])
          })
        })
      }
    }
    const port = await listen()
    for (const name of Object.keys(handlers)) {
      for (const where of ['statement', 'commit']) {
        listeners = []
        t.match(await request(port, `/${name}/${where}`), { status: 200, body: 'ok' })
        t.equal(listeners.length, 14)
        t.ok(Math.max(...listeners) - listeners[0]! <= 2, `${name}, ${where}: ${listeners.join()}`)
      }
    }
    t.same(warnings.filter(({ name }) => name === 'MaxListenersExceededWarning'), [])
  })
}

test('an attempt that awaits its reply goes on when the response was sent', { plugin: { retry } }, async (t, { app, listen }) => {
  const sent: boolean[] = []
  app.post('/', async (request, reply) => {
    if (request.db.attempt < 3) await request.db.query(late)
    await request.db.query(insert, ['x'])
    reply.send('ok')
    await reply
    sent.push(reply.raw.writableEnded)
  })
  t.match(await send(await listen(), { method: 'POST' }), { status: 200, body: 'ok' })
  await waitFor(() => sent.length === 3)
  t.same(sent, [true, true, true])
})

test('a response has its date, whatever a failed attempt has removed', { plugin: { retry } }, async (t, { app, listen }) => {
  app.post('/', async (request, reply) => {
    const { attempt } = request.db
    if (attempt === 1) reply.raw.removeHeader('date')
    if (attempt === 2) reply.raw.setHeader('date', 'never')
    if (attempt < 3) await request.db.query(conflict)
    return 'ok'
  })
  const { status, headers } = await send(await listen(), { method: 'POST' })
  t.equal(status, 200)
  t.not(Number.isNaN(Date.parse(String(headers.date))), true)
})

function longestDelay (t: { teardown (fn: () => void): void }): void {
  const { random } = Math
  Math.random = () => 0.99
  t.teardown(() => { Math.random = random })
}
