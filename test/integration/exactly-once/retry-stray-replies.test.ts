// A failed attempt of a handler that goes on after its failure: what it does to its reply is no matter of the next one.
import { Readable } from 'node:stream'
import type { FastifyReply, FastifyRequest } from 'fastify'
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

/** What is left running of an attempt. */
const strays: Record<string, (reply: FastifyReply) => unknown> = {
  'reply.send()': (reply) => reply.code(202).header('x-stray', '1').send({ stray: true }),
  'an error status': (reply) => reply.code(409).type('text/stray').send('stray'),
  'reply.send(error)': (reply) => reply.send(new Error('stray')),
  'a redirect': (reply) => reply.redirect('/stray'),
  'a stream': (reply) => reply.send(Readable.from(['stray'])),
  'a not found': (reply) => reply.callNotFound(),
  'hijack()': (reply) => reply.hijack(),
  'raw.end()': (reply) => { reply.raw.statusCode = 418; reply.raw.end('stray') },
  'status, headers, trailer, serializer': (reply) => {
    reply.statusCode = 418
    reply.headers({ 'x-stray': '1' }).removeHeader('x-kept').trailer('x-stray', () => '1')
    reply.serializer(() => 'stray')
  },
  'awaiting the reply': async (reply) => { await reply }
}

const modes = ['throws', 'answers, and COMMIT fails'] as const
for (const [stray, go] of Object.entries(strays)) {
  test(`${stray}: a failed attempt cannot answer for the next one`, { plugin: { retry } }, async (t, bank) => {
    const { app, listen, entries } = bank
    app.addHook('onRequest', async (_request, reply) => { reply.header('x-kept', '1') })
    for (const mode of modes) {
      const [running, ended] = [gate(), gate()]
      app.post(`/${mode[0]}`, async (request, reply) => {
        const { db } = request
        if (db.attempt === 1) {
          running.opened.then(() => go(reply)).catch(() => {}).finally(() => setImmediate(ended.open))
          if (mode === 'throws') await db.query(conflict)
          await db.query(late)
          await db.query(insert, ['lost'])
          return { attempt: 1 }
        }
        running.open()
        await ended.opened
        await db.query(insert, [mode])
        return reply.code(201).send({ attempt: 2 })
      })
    }
    const port = await listen()
    for (const mode of modes) {
      const { status, headers, body } = await send(port, { method: 'POST', path: `/${mode[0]}` })
      t.same([status, body, headers['x-kept'], headers['x-stray'], headers.location], [201, '{"attempt":2}', '1', undefined, undefined], mode)
      t.match(headers['content-type'], /^application\/json/)
    }
    t.same(await entries(), modes.toSorted())
  })
}

for (const status of [200, 404, 500]) {
  test(`a ${status} that a failed attempt sends during the delay is not sent`, { plugin: { retry: { attempts: 2, minDelay: 300 } } }, async (t, bank) => {
    const { app, listen, entries, log } = bank
    longestDelay(t)
    const ended = gate()
    app.post('/', async (request, reply) => {
      if (request.db.attempt === 2) {
        await ended.opened
        await request.db.query(insert, ['second'])
        return 'second'
      }
      waitFor(() => log.some(({ delay }) => delay !== undefined)).then(() => {
        reply.code(status).send({ stray: true })
        ended.open()
      })
      await request.db.query(conflict)
    })
    t.match(await send(await listen(), { method: 'POST' }), { status: 200, body: 'second' })
    t.same(await entries(), ['second'])
    t.match(log.filter(({ level }) => level >= 50), [{ msg: /after its attempt had failed/ }])
  })
}

test('a callback of a failed attempt cannot answer for the next one, which answers in a callback too', { plugin: { retry } }, async (t, { app, listen, entries, log }) => {
  app.post('/', (request, reply) => {
    const { db } = request
    const { attempt } = db
    const then = (fn: () => void): void => { setImmediate(fn) }
    db.query(attempt === 1 ? late : 'SELECT 1').then(() => db.query(insert, [`${attempt}`])).then(() => {
      if (attempt === 1) then(() => waitFor(() => log.some(({ delay }) => delay !== undefined)).then(() => reply.code(410).send('again')))
      then(() => reply.code(201).send({ attempt }))
    }, (error) => reply.send(error))
  })
  t.match(await send(await listen(), { method: 'POST' }), { status: 201, body: '{"attempt":2}' })
  t.same(await entries(), ['2'])
})

test('HTTP/2: a failed attempt cannot answer for the next one', { plugin: { retry }, fastify: { http2: true } as object }, async (t, { app, listen, entries }) => {
  const [running, ended] = [gate(), gate()]
  app.post('/', async (request, reply) => {
    if (request.db.attempt === 1) {
      running.opened.then(() => {
        reply.code(409).header('x-stray', '1').send('stray')
        ended.open()
      })
      await request.db.query(conflict)
    }
    running.open()
    await ended.opened
    await request.db.query(insert, ['kept'])
    return reply.code(201).send({ ok: true })
  })
  const { status, headers, body } = await openHttp2Request(await listen(), { body: {} }).response
  t.same([status, headers['x-stray'], body], [201, undefined, '{"ok":true}'])
  t.same(await entries(), ['kept'])
})

for (const where of ['onSend', 'preSerialization'] as const) {
  test(`a response that is in an async ${where} hook when its handler fails is refused, and the handler runs again`, { register: false }, async (t, { app, plugin, listen, entries }) => {
    const failed = gate()
    app.addHook(where, async (_request: FastifyRequest, _reply: FastifyReply, payload: unknown) => {
      await failed.opened
      return payload
    })
    await app.register(pgScope, { ...plugin, retry })
    app.post('/', async (request, reply) => {
      const { attempt } = request.db
      await request.db.query(insert, [`${attempt}`])
      reply.code(200 + attempt).send({ attempt })
      if (attempt === 2) return failed.open()
      await request.db.query(conflict).finally(() => { setImmediate(failed.open) })
    })
    t.match(await send(await listen(), { method: 'POST' }), { status: 202, body: '{"attempt":2}' })
    t.same(await entries(), ['2'])
  })
}

test('handlerTimeout answers while a later attempt is running, and ends its work', { plugin: { retry } }, async (t, { app, listen, entries }) => {
  const seen: number[] = []
  app.post('/', { handlerTimeout: 2000 }, async (request) => {
    seen.push(request.db.attempt)
    await request.db.query(insert, ['lost'])
    if (request.db.attempt === 1) await request.db.query(conflict)
    await request.db.query('SELECT pg_sleep(60)')
  })
  t.match(await send(await listen(), { method: 'POST' }), { status: 503, body: /FST_ERR_HANDLER_TIMEOUT/ })
  t.same(seen, [1, 2])
  t.same(await entries(), [])
})

test('a handler with retry sees the reply as any other: decorators, own properties, what it replaces', { plugin: { retry } }, async (t, { app, listen }) => {
  app.decorateReply('greet', function (this: FastifyReply, name: string) { return this.code(203).send(`hello ${name}`) } as never)
  app.decorateReply('tenant', { getter (this: FastifyReply) { return `of ${this.request.id}` } } as never)
  app.decorateReply('note', null as never)
  type Own = FastifyReply & { greet (name: string): FastifyReply, tenant: string, note: string | null, extra: unknown }
  app.addHook('onResponse', async (_request, reply) => { after.push((reply as Own).note, (reply as Own).extra) })
  const after: unknown[] = []
  app.post('/', (request, given) => {
    const reply = given as Own
    t.equal(reply.request, request)
    t.equal(reply.sent, false)
    t.equal(reply.statusCode, 200)
    t.equal(reply.tenant, `of ${request.id}`)
    t.equal(reply.code(203), reply)
    t.equal(reply.getDecorator('note'), null)
    reply.note = 'noted'
    reply.extra = 1
    return reply.greet('you')
  })
  t.match(await send(await listen(), { method: 'POST' }), { status: 203, body: 'hello you' })
  await waitFor(() => after.length === 2)
  t.same(after, ['noted', 1])
})

test('hijack() of a handler with retry leaves the response to it', { plugin: { retry } }, async (t, { app, listen }) => {
  app.post('/', async (request, reply) => {
    if (request.db.attempt === 1) await request.db.query(conflict)
    reply.hijack()
    reply.raw.end(`attempt ${request.db.attempt}`)
  })
  t.match(await send(await listen(), { method: 'POST' }), { status: 200, body: 'attempt 2' })
})

function longestDelay (t: { teardown (fn: () => void): void }): void {
  const { random } = Math
  Math.random = () => 0.99
  t.teardown(() => { Math.random = random })
}
