// What a failed attempt of a handler leaves behind, while the next one runs.
import { AsyncLocalStorage } from 'node:async_hooks'
import type { FastifyReply, FastifyRequest } from 'fastify'
import t from 'tap'
import { bankCases, gate } from './bank.ts'
import { conflict, insert, late, prepareConflicts } from './conflicts.ts'
import { send } from '../../../harness/http-client.ts'
import { waitFor } from '../../../harness/wait-for.ts'

const { postgres, test } = await bankCases(t)
await prepareConflicts(postgres)
const plugin = { retry: { attempts: 3, minDelay: 1 } }

for (const [end, words] of [['ends', null], ['throws', /after its attempt/]] as const) {
  test(`a handler that ${end} after its attempt has failed does not answer the next one`, { plugin }, async (t, { app, listen, entries, log }) => {
    const second = gate()
    const ended = gate()
    app.post('/', async (request, reply) => {
      const { db } = request
      const { attempt } = db
      await db.query(insert, [`debit ${attempt}`])
      if (attempt === 1) {
        await db.query(late)
        await db.query(insert, ['x'])
        reply.send({ attempt })
        await second.opened
        setImmediate(() => setImmediate(ended.open))
        if (words === null) return
        throw new Error('late failure')
      }
      second.open()
      await ended.opened
      await db.query(insert, [`credit ${attempt}`])
      reply.send({ attempt })
    })
    t.match(await send(await listen(), { method: 'POST' }), { status: 200, body: '{"attempt":2}' })
    t.same(await entries(), ['credit 2', 'debit 2'])
    if (words === null) return
    await waitFor(() => log.some(({ msg }) => words.test(msg)))
    t.match(log.find(({ msg }) => words.test(msg)), { level: 50, err: { message: 'late failure' } })
  })
}

test('a success that a failed attempt sends during the delay is not sent', { plugin: { retry: { attempts: 2, minDelay: 300 } } }, async (t, { app, listen, entries, log }) => {
  let sent = 0
  app.post('/', async (request, reply) => {
    const { db } = request
    if (db.attempt === 2) {
      await db.query(insert, ['second'])
      return 'second'
    }
    const rest = waitFor(() => log.some(({ delay }) => delay !== undefined)).then(() => {
      sent++
      reply.code(202).header('x-failed', 'yes').send({ ok: true })
    })
    await Promise.all([db.query(conflict), rest])
  })
  const random = Math.random
  Math.random = () => 0.99
  t.teardown(() => { Math.random = random })
  const { status, headers, body } = await send(await listen(), { method: 'POST' })
  t.same([status, body, sent], [200, 'second', 1])
  t.notOk('x-failed' in headers)
  t.same(await entries(), ['second'])
})

for (const where of ['statement', 'COMMIT'] as const) {
  test(`after a failed ${where} the handler runs again in the async context of the first attempt`, { plugin }, async (t, { app, listen, entries }) => {
    const context = new AsyncLocalStorage<string>()
    const contexts: unknown[] = []
    app.post('/', (request, reply) => {
      const { attempt } = request.db
      contexts.push(context.getStore())
      context.run(`attempt ${attempt}`, () => {
        app.db.current().query(attempt === 1 && where === 'COMMIT' ? late : 'SELECT 1')
          .then(() => request.db.transaction(async () => {
            await app.db.current().query(insert, [`attempt ${attempt}`])
            if (attempt === 1 && where === 'statement') await app.db.current().query(conflict)
            reply.send(`attempt ${attempt}`)
          })).catch((error) => reply.send(error))
      })
    })
    t.match(await send(await listen(), { method: 'POST' }), { status: 200, body: 'attempt 2' })
    t.same(contexts, [undefined, undefined])
    t.same(await entries(), ['attempt 2'])
  })
}

test('what plugins keep of a failed attempt on the reply is undone', { plugin }, async (t, { app, listen }) => {
  // As @fastify/cookie keeps the cookies to set, and as a plugin of the user may.
  const cookies = Symbol('fastify.reply.setCookies')
  const own = Symbol('own')
  type Kept = FastifyReply & { [cookies]: Map<string, string>, [own]: Set<string>, tags: string[] }
  app.decorateReply(cookies as never)
  app.decorateReply('tags' as never)
  app.addHook('onRequest', async (_request, reply) => {
    const kept = reply as Kept
    kept[cookies] = new Map([['before', '0']])
    kept[own] = new Set(['before'])
    kept.tags = ['before']
  })
  app.addHook('onSend', async (_request, reply) => {
    const kept = reply as Kept
    reply.header('set-cookie', [...kept[cookies].keys()].join()).header('x-own', [...kept[own], ...kept.tags].join())
  })
  app.post('/', async (request: FastifyRequest, reply) => {
    const { attempt } = request.db
    const kept = reply as Kept
    kept[cookies].set(`attempt${attempt}`, 'token')
    kept[own].add(`own${attempt}`)
    kept.tags.push(`tag${attempt}`)
    if (attempt < 3) await request.db.query(conflict)
    return 'ok'
  })
  const { status, headers } = await send(await listen(), { method: 'POST' })
  t.equal(status, 200)
  t.equal(String(headers['set-cookie']), 'before,attempt3')
  t.equal(headers['x-own'], 'before,own3,before,tag3')
})
