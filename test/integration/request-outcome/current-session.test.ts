import t from 'tap'
import Fastify, { type FastifyInstance, type FastifyRequest } from 'fastify'
import { EventEmitter, once } from 'node:events'
import { connect } from 'node:http2'
import { Readable } from 'node:stream'
import { setTimeout } from 'node:timers/promises'
import pgScope from '../../../harness/plugin.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'

declare module 'fastify' {
  interface FastifyInstance { other: FastifyInstance['db'] }
  interface FastifyRequest { other: FastifyRequest['db'] }
}

const postgres = await startTestPostgres(t)
await postgres.query('CREATE TABLE things (name text)')
const app = Fastify()
await app.register(pgScope, { connectionString: postgres.connectionString })
await app.register(pgScope, { connectionString: postgres.connectionString, decorator: 'other' })
t.teardown(() => app.close())
const noSession = { code: 'FST_PG_SCOPE_NO_SESSION', statusCode: 500 }

/** Where current() was the session of the request, for each engine. */
const seen: string[] = []
const look = (name: string, request: FastifyRequest): void => {
  const isRight = app.db.current() === request.db && app.other.current() === request.other
  seen.push(isRight ? name : `wrong: ${name}`)
}

function listenToEverything (app: FastifyInstance): void {
  app.addHook('onRequest', async (request) => look('onRequest', request))
  app.addHook('preParsing', async (request) => look('preParsing', request))
  app.addHook('preValidation', async (request) => look('preValidation', request))
  app.addHook('preHandler', async (request) => look('preHandler', request))
  app.addHook('preSerialization', async (request) => look('preSerialization', request))
  app.addHook('onError', async (request) => look('onError', request))
  app.addHook('onSend', async (request) => look('onSend', request))
  app.addHook('onResponse', async (request) => look('onResponse', request))
  app.addContentTypeParser('text/x-callback', { parseAs: 'string' }, (request, body, done) => {
    look('parser', request)
    done(null, body)
  })
  app.addContentTypeParser('text/x-stream', async (request: FastifyRequest, payload: Readable) => {
    look('parser', request)
    let text = ''
    for await (const chunk of payload) text += chunk
    look('parser, behind the body', request)
    return text
  })
}
listenToEverything(app)
app.route({
  method: ['GET', 'POST', 'DELETE'],
  url: '/',
  handler: async (request) => {
    look('handler', request)
    await setTimeout(1)
    look('handler, behind a timer', request)
    await Promise.all([1, 2].map(async (n) => {
      await app.db.current().query('SELECT $1::int', [n])
      look('Promise.all', request)
    }))
    return {}
  }
})
app.get('/throws', async () => { throw new Error('mine') })
app.get('/stream', (request, reply) => {
  reply.send(Readable.from((async function * () {
    for (let i = 0; i < 3; i++) {
      await app.db.current().query('SELECT 1')
      look('body', request)
      yield 'x'.repeat(100000)
    }
  })()))
})
app.get('/rows', async (request, reply) => reply.send(app.db.current().stream('SELECT generate_series(1, 1000) AS n')))
const scopesOf = async (request: FastifyRequest): Promise<void> => {
  const { db } = app
  await db.scope(async (session) => {
    t.equal(db.current(), session)
    t.equal(app.other.current(), request.other)
    await session.transaction(async (nested) => {
      t.equal(db.current(), nested)
      await request.db.transaction(async (inner) => t.equal(db.current(), inner))
      await app.other.scope(async (other) => {
        t.equal(db.current(), nested)
        t.equal(app.other.current(), other)
      })
    })
    t.equal(db.current(), session)
  })
  t.equal(db.current(), request.db)
}
app.get('/scopes', async (request) => {
  await scopesOf(request)
  return {}
})
const address = await app.listen({ port: 0, host: '127.0.0.1' })

t.test('outside of requests and scopes there is none', async t => {
  t.throws(() => app.db.current(), noSession)
  const session = app.db.session()
  t.throws(() => app.db.current(), noSession)
  await session.transaction(async (nested) => t.equal(app.db.current(), nested))
  await session.close()
  const emitter = new EventEmitter()
  const later = once(emitter, 'done')
  setImmediate(() => {
    t.throws(() => app.db.current(), noSession)
    emitter.emit('done')
  })
  await app.db.scope(async (session) => t.equal(app.db.current(), session))
  await later
})

const bodies = [
  ['json', { 'content-type': 'application/json' }, '{"a":1}'],
  ['a parser with a callback', { 'content-type': 'text/x-callback' }, 'a'],
  ['a parser that reads the stream', { 'content-type': 'text/x-stream' }, 'a'.repeat(300000)]
] as const
const behind = ['preValidation', 'preHandler', 'handler', 'handler, behind a timer', 'Promise.all', 'Promise.all', 'preSerialization', 'onSend', 'onResponse']

/** The response arrives before onResponse has run. */
const seenAll = async (count: number): Promise<string[]> => {
  while (seen.length < count) await new Promise((resolve) => setImmediate(resolve))
  return seen.splice(0)
}

t.test('it is the session of the request in every hook, in the handler and below', async t => {
  const expected = ['onRequest', 'preParsing', ...behind]
  t.equal((await fetch(address)).status, 200)
  t.same(await seenAll(expected.length), expected)
  t.equal((await app.inject('/')).statusCode, 200)
  t.same(await seenAll(expected.length), expected)
})

for (const [name, headers, body] of bodies) {
  t.test(`it is the session of the request behind a body too: ${name}`, async t => {
    const parser = name === 'json' ? [] : name.includes('stream') ? ['parser', 'parser, behind the body'] : ['parser']
    const expected = ['onRequest', 'preParsing', ...parser, ...behind]
    t.equal((await fetch(address, { method: 'POST', headers, body })).status, 200)
    t.same(await seenAll(expected.length), expected)
    t.equal((await app.inject({ method: 'POST', url: '/', headers, payload: body })).statusCode, 200)
    t.same(await seenAll(expected.length), expected)
  })
}

t.test('it is the session of the request where an error is answered', async t => {
  t.equal((await fetch(`${address}/throws`)).status, 500)
  const expected = ['onRequest', 'preParsing', 'preValidation', 'preHandler', 'onError', 'onSend', 'onResponse']
  t.same(await seenAll(expected.length), expected)
  const body = await fetch(address, { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{' })
  t.equal(body.status, 400)
  t.same(await seenAll(5), ['onRequest', 'preParsing', 'onError', 'onSend', 'onResponse'])
})

t.test('it is the session of the request in a body that is streamed, and its stream may be the body', async t => {
  t.equal((await (await fetch(`${address}/stream`)).text()).length, 300000)
  t.same((await seenAll(9)).filter((name) => name.startsWith('wrong') || name === 'body'), ['body', 'body', 'body'])
  t.equal((await (await fetch(`${address}/rows`)).text()).split('\n').length, 1001)
  await seenAll(6)
})

t.test('requests side by side and one after the other on a socket never see each other', async t => {
  await Promise.all(Array.from({ length: 50 }, () => fetch(address, { method: 'POST', headers: bodies[0][1], body: bodies[0][2] })))
  t.same((await seenAll(50 * 11)).filter((name) => name.startsWith('wrong')), [])
})

t.test('the innermost scope(fn) or transaction(fn) of an engine counts, whatever runs on another engine', async () => {
  await fetch(`${address}/scopes`)
})

t.test('a request that was injected by a handler has its own, and the handler keeps its own', async t => {
  const outer = Fastify()
  await outer.register(pgScope, { connectionString: postgres.connectionString })
  outer.post('/inner', async (request) => ({ own: outer.db.current() === request.db }))
  outer.post('/', async (request) => {
    const inner = (await outer.inject({ method: 'POST', url: '/inner', payload: {} })).json()
    return { own: outer.db.current() === request.db, inner }
  })
  t.teardown(() => outer.close())
  t.same((await outer.inject({ method: 'POST', url: '/', payload: {} })).json(), { own: true, inner: { own: true } })
})

t.test('in mode autocommit it is the session of the request, and in transaction(fn) that of the transaction', async t => {
  const single = Fastify()
  await single.register(pgScope, { connectionString: postgres.connectionString, mode: 'autocommit' })
  single.get('/', async (request) => {
    const own = single.db.current() === request.db
    return { own, inside: await request.db.transaction(async (session) => single.db.current() === session) }
  })
  t.teardown(() => single.close())
  t.same((await single.inject('/')).json(), { own: true, inside: true })
})

t.test('behind the end of its request it is the closed session, which says what to do', async t => {
  let late!: Promise<unknown>
  const app = Fastify()
  await app.register(pgScope, { connectionString: postgres.connectionString })
  t.teardown(() => app.close())
  const answered = new EventEmitter()
  app.get('/', async () => {
    await app.db.current().query('SELECT 1')
    late = once(answered, 'answered').then(() => app.db.current().query('SELECT 1'))
    late.catch(() => {})
    return {}
  })
  await app.inject('/')
  answered.emit('answered')
  await t.rejects(late, { code: 'FST_PG_SCOPE_SESSION_CLOSED' })
})

t.test('it is found however many requests came before that did not need it', async t => {
  const app = Fastify()
  await app.register(pgScope, { connectionString: postgres.connectionString })
  app.get('/health', async () => ({}))
  app.post('/', async (request) => ({ own: app.db.current() === request.db }))
  t.teardown(() => app.close())
  for (let i = 0; i < 3000; i++) await app.inject('/health')
  t.same((await app.inject({ method: 'POST', url: '/', payload: {} })).json(), { own: true })
})

t.test('over HTTP/2 it is the session of the request behind a body too', async t => {
  const app = Fastify({ http2: true })
  await app.register(pgScope, { connectionString: postgres.connectionString })
  app.post('/', async (request) => ({ own: app.db.current() === request.db, body: request.body }))
  t.teardown(() => app.close())
  const client = connect(await app.listen({ port: 0, host: '127.0.0.1' }))
  t.teardown(() => client.close())
  const answers = Array.from({ length: 20 }, async (_, i) => {
    const stream = client.request({ ':method': 'POST', ':path': '/', 'content-type': 'application/json' })
    stream.write('{"a":')
    await setTimeout(5)
    stream.end(`${i}}`)
    let text = ''
    for await (const chunk of stream) text += chunk
    t.same(JSON.parse(text), { own: true, body: { a: i } })
  })
  await Promise.all(answers)
})
