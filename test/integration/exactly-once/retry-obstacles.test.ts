// When a handler with `retry` runs again, and when it cannot.
import { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import type { FastifyRequest } from 'fastify'
import t from 'tap'
import { bankCases, gate, type LogLine } from './bank.ts'
import { conflict, insert, late, prepareConflicts } from './conflicts.ts'
import { hangUp, send } from '../../../harness/http-client.ts'
import { waitFor } from '../../../harness/wait-for.ts'

const { postgres, test } = await bankCases(t)
await prepareConflicts(postgres)
const plugin = { retry: { attempts: 3, minDelay: 1 } }
const slow = { attempts: 3, minDelay: 60000, maxDelay: 60000 }

const reasons = (log: LogLine[]): string[] => log.flatMap(({ err }) => err?.notRetried ?? [])

for (const [body, read] of [
  ['a stream', (request: FastifyRequest) => text(request.body as Readable)],
  ['read from the raw request', (request: FastifyRequest) => text(request.raw)]
] as const) {
  test(`a request whose body is ${body} is not repeated: it can be read only once`, { plugin }, async (t, { app, listen, entries, log }) => {
    let calls = 0
    app.addContentTypeParser('*', (_request, payload, done) => done(null, body === 'a stream' ? payload : undefined))
    app.post('/', async (request) => {
      calls++
      const bytes = await read(request)
      await request.db.query(insert, [bytes])
      await request.db.query(conflict)
    })
    const response = await send(await listen(), { method: 'POST', headers: { 'content-type': 'text/x' }, body: 'hello' })
    t.equal(response.status, 503)
    t.equal(calls, 1)
    t.same(await entries(), [])
    t.same(reasons(log), ['its body was a stream'])
  })
}

test('a request whose body was parsed before the handler is repeated', { plugin }, async (t, { app, listen }) => {
  app.post('/', async (request) => {
    if (request.db.attempt === 1) await request.db.query(conflict)
    return request.body
  })
  const response = await send(await listen(), { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{"a":1}' })
  t.match(response, { status: 200, body: '{"a":1}' })
})

test('`attempt` is that of the handler if the session is first used in the second one', { plugin }, async (t, { app, listen }) => {
  let calls = 0
  app.post('/', async (request) => {
    if (++calls === 1) await app.db.scope((db) => db.query(conflict), { retry: false })
    return { calls, attempt: request.db.attempt }
  })
  t.match(await send(await listen(), { method: 'POST' }), { status: 200, body: '{"calls":2,"attempt":2}' })
})

test('a hang-up ends the delay of a request that has not used its session', { plugin: { retry: slow } }, async (t, { app, listen, log }) => {
  let calls = 0
  app.post('/', async () => {
    calls++
    await app.db.scope((db) => db.query(conflict), { retry: false })
  })
  await hangUp(await listen(), { method: 'POST' }, { after: waitFor(() => log.some(({ delay }) => delay !== undefined)) })
  await app.close()
  t.equal(calls, 1)
  t.notOk(reasons(log).includes('the app is closing'))
})

test('a hang-up before the delay begins ends it, and no repetition is announced', { plugin: { retry: slow } }, async (t, { app, listen, log }) => {
  let calls = 0
  const ended = gate()
  app.addHook('onRequest', async (request) => { request.raw.socket.once('close', () => ended.open()) })
  app.post('/', async (request) => {
    calls++
    await request.db.query(insert, ['x'])
    await request.db.query(conflict).catch((error) => {
      request.raw.socket.destroy()
      throw error
    })
  })
  await send(await listen(), { method: 'POST' }).catch(() => {})
  await ended.opened
  await waitFor(() => app.db.stats().inUse === 0)
  await app.close()
  t.equal(calls, 1)
  t.notOk(log.some(({ delay }) => delay !== undefined))
  t.notOk(log.some(({ err }) => /before initialization/.test(err?.message ?? '')))
})

test('COMMIT\'s conflict is repeated if an onSend hook has made a stream of the response', { plugin }, async (t, { app, listen, entries }) => {
  const streams: Readable[] = []
  app.addHook('onSend', async (_request, _reply, payload) => {
    streams.push(Readable.from([payload as string]))
    return streams.at(-1)
  })
  app.post('/', async (request) => {
    const { attempt } = request.db
    if (attempt === 1) await request.db.query(late)
    await request.db.query(insert, [`attempt ${attempt}`])
    return { attempt }
  })
  t.match(await send(await listen(), { method: 'POST' }), { status: 200, body: '{"attempt":2}' })
  t.same(await entries(), ['attempt 2'])
  t.ok(streams[0]!.destroyed)
})

for (const style of ['returns a value', 'calls reply.send()', 'returns nothing'] as const) {
  for (const where of ['statement', 'COMMIT'] as const) {
    test(`onAbort 'commit': after a hang-up and a conflict of ${where}, a handler that ${style} runs again`, { plugin: { ...plugin, onAbort: 'commit' } }, async (t, { app, listen, entries }) => {
      const started = gate()
      const attempts: number[] = []
      app.post('/', async (request, reply) => {
        const { db } = request
        attempts.push(db.attempt)
        if (db.attempt === 1 && where === 'COMMIT') await db.query(late)
        await db.query(insert, [`attempt ${db.attempt}`])
        started.open()
        await waitFor(() => reply.raw.destroyed)
        if (db.attempt === 1 && where === 'statement') await db.query(conflict)
        if (style === 'returns a value') return 'ok'
        if (style === 'calls reply.send()') reply.send('ok')
      })
      await hangUp(await listen(), { method: 'POST' }, { after: started.opened })
      await waitFor(async () => (await entries()).length > 0)
      t.same(await entries(), ['attempt 2'])
      t.same(attempts, [1, 2])
    })
  }
}

test('the log line of a repetition has the SQLSTATE and the statement if the handler has replaced the error', { plugin }, async (t, { app, listen, log }) => {
  app.post('/', async (request) => {
    if (request.db.attempt === 1) await request.db.query(conflict).catch(() => { throw new Error('mine') })
    return 'ok'
  })
  t.equal((await send(await listen(), { method: 'POST' })).status, 200)
  const lines = log.filter(({ delay }) => delay !== undefined)
  t.match(lines, [{ attempt: 1, sqlstate: '40001', statement: conflict, msg: /will be run again/ }])
})
