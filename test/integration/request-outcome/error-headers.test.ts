import type { AddressInfo } from 'node:net'
import { Readable } from 'node:stream'
import compress from '@fastify/compress'
import etag from '@fastify/etag'
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import t from 'tap'
import pgScope from '../../../harness/plugin.ts'
import { outcomeCases } from './outcome-cases.ts'
import { send } from '../../../harness/http-client.ts'

// Headers of a success that is not sent must not stay on the error in its place.
const { test } = await outcomeCases(t)
const page = 'x'.repeat(5000)

type Work = (request: FastifyRequest, reply: FastifyReply) => Promise<unknown>

/** Each makes a refused success of what is sent next. */
const refusals: Record<string, [Work, number]> = {
  commit: [(request) => request.db.query('INSERT INTO unique_note VALUES ($1), ($1)', ['twice']), 409],
  swallowed: [(request) => request.db.query('SELECT no_such_column').catch(() => {}), 500],
  header: [async (_request, reply) => { reply.header('x-name', 'two\nlines') }, 500],
  rule: [async () => {}, 500]
}

function declare (app: FastifyInstance, answer: (reply: FastifyReply) => unknown): void {
  for (const [name, [refuse]] of Object.entries(refusals)) {
    const commitIf = () => { throw new Error('a bug in the rule') }
    app.get(`/${name}`, { config: { db: name === 'rule' ? { commitIf } : {} } }, async (request, reply) => {
      await request.db.query('INSERT INTO note VALUES ($1)', ['lost'])
      await refuse(request, reply)
      return answer(reply)
    })
  }
}

for (const order of ['before', 'behind']) {
  test(`@fastify/compress ${order} the plugin: each error in the place of a success can be read`, { register: false }, async (t, { app, plugin, listen, saved }) => {
    if (order === 'before') await app.register(compress as never, { threshold: 1 })
    await app.register(pgScope, plugin)
    if (order === 'behind') await app.register(compress as never, { threshold: 1 })
    declare(app, () => page)
    await app.register(async (streams) => { declare(streams as never, (reply) => reply.type('text/plain').send(Readable.from([page]))) }, { prefix: '/stream' })
    const port = await listen()
    for (const prefix of ['', '/stream']) {
      for (const [name, [, status]] of Object.entries(refusals)) {
        for (const encoding of ['gzip', 'identity']) {
          // fetch() decodes what is compressed, and fails where a plain body is said to be.
          const answer = await fetch(`http://127.0.0.1:${port}${prefix}/${name}`, { headers: { 'accept-encoding': encoding, connection: 'close' } })
          t.equal(answer.status, status, `${prefix}/${name}`)
          t.match(await answer.json(), { statusCode: status }, `${prefix}/${name}, ${encoding}: readable`)
        }
      }
    }
    t.same(await saved(), [])
  })
}

test('@fastify/etag: an error in the place of a success is no 304, and has not the success\'s tag', { register: false }, async (t, { app, plugin, listen, saved }) => {
  await app.register(etag as never)
  await app.register(pgScope, plugin)
  app.get('/', async () => page)
  declare(app, () => page)
  const port = await listen()
  const tag = (await send(port)).headers.etag as string
  t.ok(tag)
  for (const [name, [, status]] of Object.entries(refusals)) {
    const answer = await send(port, { path: `/${name}`, headers: { 'if-none-match': tag } })
    t.match(answer, { status, complete: true }, name)
    t.not(answer.headers.etag, tag, name)
    t.ok(JSON.parse(answer.body), name)
  }
  t.same(await saved(), [])
})

const success: Record<string, string> = {
  'content-encoding': 'identity',
  'content-language': 'de',
  'content-location': '/x',
  'content-disposition': 'attachment',
  'content-range': 'bytes 0-1/2',
  'content-digest': 'sha-256=:AA==:',
  etag: '"a"',
  'last-modified': new Date(0).toUTCString(),
  'cache-control': 'public, max-age=60',
  expires: new Date(0).toUTCString(),
  age: '1',
  location: '/created',
  link: '</x>; rel=next'
}

test('what describes the success goes with it, however it was set; cookies, vary and other headers stay', {}, async (t, { app, listen, saved }) => {
  declare(app, (reply) => {
    for (const [name, value] of Object.entries(success)) name.startsWith('c') ? reply.raw.setHeader(name, value) : reply.header(name, value)
    reply.raw.statusMessage = 'All fine'
    return reply.headers({ 'set-cookie': 'a=1', vary: 'origin', 'x-request': '7' }).trailer('x-sum', async () => 'of the page').send(page)
  })
  const port = await listen()
  for (const [name, [, status]] of Object.entries(refusals)) {
    const answer = await send(port, { path: `/${name}` })
    t.match(answer, { status, complete: true, headers: { 'set-cookie': /a=1/, vary: 'origin', 'x-request': '7', 'content-type': /json/ } }, name)
    for (const header of [...Object.keys(success), 'trailer', 'transfer-encoding']) t.notOk(header in answer.headers, `${name}: ${header}`)
    t.ok(JSON.parse(answer.body), name)
  }
  t.same(await saved(), [])
})

test('an error in the place of a stream, before its first byte, has none of the stream\'s headers', {}, async (t, { app, listen, saved }) => {
  app.get('/rows', async (request, reply) => {
    await request.db.query('INSERT INTO unique_note VALUES ($1), ($1)', ['twice'])
    return reply.headers({ etag: '"a"', 'cache-control': 'public' }).send(request.db.stream('SELECT 1 WHERE false'))
  })
  app.get('/foreign', async (request, reply) => {
    await request.db.query('INSERT INTO note VALUES ($1)', ['kept'])
    return reply.headers({ etag: '"a"', 'cache-control': 'public' }).send(new Readable({ read () { this.destroy(new Error('no file')) } }))
  })
  const port = await listen()
  for (const [path, status] of [['/rows', 409], ['/foreign', 500]] as const) {
    const answer = await send(port, { path })
    t.match(answer, { status, complete: true, headers: { etag: undefined, 'cache-control': undefined } }, path)
    t.ok(JSON.parse(answer.body), path)
  }
  t.same(await saved(), ['kept'])
})

test('an answer that was overtaken, and whose COMMIT fails: the error has none of their headers, and its own', {}, async (t, { app, listen, saved }) => {
  app.get('/', async (request, reply) => {
    await request.db.query('INSERT INTO slow VALUES ($1, 0.5, $2)', ['lost', '40001'])
    setTimeout(() => { reply.send(new Error('another answer')) }, 20)
    return reply.header('etag', '"a"').send('x')
  })
  const answer = await send(await listen())
  t.match(answer, { status: 503, complete: true, headers: { 'retry-after': '1', etag: undefined } })
  t.match(JSON.parse(answer.body), { code: 'FST_PG_SCOPE_SERIALIZATION_FAILURE' })
  t.same(await saved(), [])
})

test('an answer that was overtaken, and whose COMMIT succeeds, has all of its headers', {}, async (t, { app, listen, saved }) => {
  app.get('/', async (request, reply) => {
    await request.db.query('INSERT INTO slow VALUES ($1, 0.5)', ['kept'])
    setTimeout(() => { reply.send(new Error('another answer')) }, 20)
    return reply.header('etag', '"a"').type('text/html').send('x')
  })
  t.match(await send(await listen()), { status: 200, body: 'x', headers: { etag: '"a"', 'content-type': 'text/html' } })
  t.same(await saved(), ['kept'])
})

test('close() that waits no longer answers with none of the handler\'s headers', { register: false }, async (t, { plugin }) => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(pgScope, { ...plugin, closeTimeout: 100 })
  let running = () => {}
  const begun = new Promise<void>((resolve) => { running = resolve })
  app.get('/', async (request, reply) => {
    reply.headers({ etag: '"a"', 'content-encoding': 'gzip', 'cache-control': 'public' })
    const sleep = request.db.query('SELECT pg_sleep(60)')
    running()
    await sleep
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const answer = send((app.server.address() as AddressInfo).port)
  await begun
  const closed = app.close()
  t.match(await answer, { status: 503, headers: { etag: undefined, 'content-encoding': undefined, 'cache-control': undefined } })
  await closed
})
