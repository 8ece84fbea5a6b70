import { createReadStream, readdirSync, readlinkSync } from 'node:fs'
import { connect as connectHttp2 } from 'node:http2'
import type { AddressInfo } from 'node:net'
import { PassThrough, Readable, Writable } from 'node:stream'
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import t from 'tap'
import pgScope from '../../../harness/plugin.ts'
import { outcomeCases } from './outcome-cases.ts'
import { send } from '../../../harness/http-client.ts'
import { waitFor } from '../../../harness/wait-for.ts'

// What Fastify or Node refuses only behind the last onSend hook.
const { test } = await outcomeCases(t)
const insert = 'INSERT INTO note VALUES ($1)'
const webStream = () => new ReadableStream({ pull (controller) { controller.enqueue(Buffer.from('x')) } })

type Answer = (reply: FastifyReply, request: FastifyRequest) => unknown
const unsendable: Record<string, Answer> = {
  'a locked web stream': () => {
    const stream = webStream()
    stream.getReader()
    return stream
  },
  'a web stream that has failed': () => new ReadableStream({ start (controller) { controller.error(new Error('failed')) } }),
  'a Response whose body is locked': () => {
    const response = new Response(webStream())
    response.body!.getReader()
    return response
  },
  'a Response whose body was read': async () => {
    const response = new Response('x')
    await response.text()
    return response
  },
  'a Response of a failed fetch': () => Response.error(),
  'a destroyed stream': () => Readable.from(['x']).destroy(),
  'an errored stream': () => Readable.from(['x']).on('error', () => {}).destroy(new Error('failed')),
  'a stream that can only be written to': () => new Writable({ write () {} }),
  'an object with a pipe() that is no stream': () => ({ pipe () {} }),
  'a file that does not exist': () => createReadStream('/no/such/file'),
  'a folder in place of a file': () => createReadStream('/no/such/folder/'),
  'a status message with a line break': (reply) => { reply.raw.statusMessage = 'two\nlines'; return 'x' },
  'a trailer whose name is none': (reply) => reply.trailer('x y', async () => 'z').send('x'),
  'a trailer of an answer without a body': (reply) => reply.code(204).trailer('x-sum', async () => 'z').send(),
  'a Trailer header over a body that is not chunked': (reply) => reply.header('trailer', 'x-sum').send('x'),
  'a raw status below 100': (reply) => { reply.raw.statusCode = 42; return 'x' },
  'a raw status that is no number': (reply) => { reply.raw.statusCode = NaN; return Readable.from(['x']) },
  'a header name that is none': (reply) => reply.header('x y', 'z').send('x'),
  'a header with a line break': (reply) => reply.header('x-name', 'two\nlines').send('x'),
  'one of several headers with a line break': (reply) => reply.header('set-cookie', ['a=1', 'b=\n']).send('x')
}

for (const custom of [false, true]) {
  test(`an answer that cannot be sent is an error, and nothing is saved${custom ? ', with an error handler of the app' : ''}`, {}, async (t, { app, listen, saved }) => {
    if (custom) {
      app.setErrorHandler((error, _request, reply) => { reply.code(500).send({ mine: (error as Error).message }) })
    }
    const answers = Object.entries(unsendable)
    for (const [index, [name, answer]] of answers.entries()) {
      app.get(`/${index}`, async (request, reply) => {
        await request.db.query(insert, [name])
        return answer(reply, request)
      })
    }
    const port = await listen()
    for (const [index, [name]] of answers.entries()) {
      const { status, complete, body } = await send(port, { path: `/${index}` })
      t.match({ status, complete }, { status: 500, complete: true }, name)
      t.ok(JSON.parse(body), `${name}: the error can be read`)
      t.same(await saved(), [], name)
    }
  })
}

test('answers that only look odd are sent and saved', {}, async (t, { app, listen, saved }) => {
  const fine: Record<string, Answer> = {
    'a file': () => createReadStream(import.meta.filename),
    'a stream at its end': async () => {
      const stream = Readable.from(['x'])
      await stream.toArray()
      return stream
    },
    'a trailer': (reply) => reply.trailer('x-sum', async () => 'z').send('x'),
    'a trailer behind a stream': (reply) => reply.trailer('x-sum', async () => 'z').send(Readable.from(['x'])),
    'a destroyed stream for a status without a body': (reply) => reply.code(204).send(Readable.from(['x']).destroy()),
    'a status message': (reply) => { reply.raw.statusMessage = 'Fine'; return 'x' },
  }
  for (const [index, [name, answer]] of Object.entries(fine).entries()) {
    app.get(`/${index}`, async (request, reply) => {
      await request.db.query(insert, [name])
      return answer(reply, request)
    })
  }
  const port = await listen()
  for (const index of Object.keys(fine).keys()) t.match(await send(port, { path: `/${index}` }), { status: /^2/, complete: true }, Object.keys(fine)[index]!)
  t.same(await saved(), Object.keys(fine).sort())
})

for (const [place, declare] of [
  ['a 404 handler', (app: any, handler: unknown) => app.setNotFoundHandler(handler)],
  ['a route that was declared before the plugin', (app: any, handler: unknown) => app.get('/', handler)]
] as const) {
  test(`an onSend hook behind ours that throws: ${place} answers an error, and nothing is saved`, { register: false }, async (t, { app, plugin, listen, saved }) => {
    const handler = async (request: FastifyRequest, reply: FastifyReply) => {
      await request.db.query(insert, [request.url])
      return reply.code(200).send('x')
    }
    if (place.startsWith('a route')) declare(app, handler)
    await app.register(pgScope, plugin)
    if (!place.startsWith('a route')) declare(app, handler)
    app.addHook('onSend', async (request) => { if (request.url.startsWith('/?throw')) throw new Error('an onSend hook') })
    const port = await listen()
    for (const path of ['/?throw=1', '/?throw=2']) t.match(await send(port, { path }), { status: 500, body: /an onSend hook/, complete: true })
    t.same(await saved(), [])
    t.match(await send(port, { path: '/?fine' }), { status: 200, complete: true })
    t.same(await saved(), ['/?fine'])
  })
}

test('HTTP/2: an answer with header fields of HTTP/1 connections is an error, and nothing is saved', { register: false }, async (t, { plugin, saved }) => {
  const app = Fastify({ http2: true }) as unknown as FastifyInstance
  t.teardown(() => app.close())
  await app.register(pgScope, plugin)
  const answers: Answer[] = [
    ...['transfer-encoding', 'keep-alive', 'proxy-connection', 'upgrade', 'te'].map((name): Answer => (reply) => reply.header(name, 'chunked').send('x')),
    (reply) => reply.header('etag', ['"a"', '"b"']).send('x'),
    (reply) => reply.trailer('transfer encoding', async () => 'x').send('x'),
    () => new Response('x', { headers: { 'transfer-encoding': 'chunked' } }),
    () => createReadStream('/no/such/file')
  ]
  for (const [index, answer] of answers.entries()) {
    app.get(`/${index}`, async (request, reply) => {
      await request.db.query(insert, [request.url])
      return answer(reply, request)
    })
  }
  app.get('/fine', async (request, reply) => {
    await request.db.query(insert, ['fine'])
    return reply.header('te', 'trailers').send('x')
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const client = connectHttp2(`http://127.0.0.1:${(app.server.address() as AddressInfo).port}`)
  t.teardown(() => client.close())
  const status = (path: string) => new Promise((resolve, reject) => {
    const request = client.request({ ':path': path })
    request.on('response', (headers) => { request.resume().on('close', () => resolve(headers[':status'])) }).on('error', reject)
  })
  for (const index of answers.keys()) t.equal(await status(`/${index}`), 500, String(index))
  t.same(await saved(), [])
  t.equal(await status('/fine'), 200)
  t.same(await saved(), ['fine'])
  client.close()
  await app.close()
})

/** How often this process has the file open. */
const openFiles = (path: string): number => readdirSync('/proc/self/fd').filter((fd) => {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`) === path
  } catch {
    return false
  }
}).length

const refusals: Record<string, (request: FastifyRequest, reply: FastifyReply) => Promise<unknown>> = {
  'COMMIT refused': (request) => request.db.query('INSERT INTO unique_note VALUES ($1), ($1)', ['twice']),
  'a statement failed': (request) => request.db.query('SELECT no_such_column').catch(() => {}),
  'an invalid header': async (_request, reply) => { reply.header('x-name', 'two\nlines') },
  'commitIf throws': async () => {}
}

test('a payload that is not sent is destroyed: files, streams of either kind, and Responses', {}, async (t, { app, listen, saved }) => {
  let cancelled = 0
  const web = () => new ReadableStream({ pull (controller) { controller.enqueue(Buffer.from('x')) }, cancel () { cancelled++ } })
  const payloads: Record<string, () => unknown> = {
    file: () => createReadStream(import.meta.filename),
    stream: () => new PassThrough(),
    web,
    response: () => new Response(web())
  }
  let last: unknown
  for (const [how, refuse] of Object.entries(refusals)) {
    for (const [kind, make] of Object.entries(payloads)) {
      const commitIf = () => { throw new Error('a bug in the rule') }
      app.get(`/${how.replaceAll(' ', '-')}/${kind}`, { config: { db: how === 'commitIf throws' ? { commitIf } : {} } }, async (request, reply) => {
        await request.db.query(insert, ['lost'])
        await refuse(request, reply)
        return (last = make())
      })
    }
  }
  const port = await listen()
  for (const how of Object.keys(refusals)) {
    for (const kind of Object.keys(payloads)) {
      cancelled = 0
      const { status, complete } = await send(port, { path: `/${how.replaceAll(' ', '-')}/${kind}` })
      t.ok(status >= 400 && complete, `${how}, ${kind}: an error`)
      if (kind === 'file' || kind === 'stream') t.ok((last as Readable).destroyed, `${how}, ${kind}: destroyed`)
      else t.equal(cancelled, 1, `${how}, ${kind}: cancelled`)
    }
  }
  await waitFor(() => openFiles(import.meta.filename) === 0, { message: 'no file is open' })
  t.same(await saved(), [])
})

test('a payload that another answer overtook is destroyed', {}, async (t, { app, listen, saved }) => {
  const late = new PassThrough()
  app.get('/', async (request, reply) => {
    await request.db.query('INSERT INTO slow VALUES ($1, 0.2)', ['kept'])
    setTimeout(() => { reply.send(late) }, 50)
    return 'x'
  })
  t.match(await send(await listen()), { status: 200, body: 'x' })
  t.ok(late.destroyed)
  t.same(await saved(), ['kept'])
})

test('a stream that fails while COMMIT is under way: the client is told that the work is saved, and the process lives', {}, async (t, { app, log, listen, saved }) => {
  app.get<{ Params: { kind: string } }>('/:kind', async (request) => {
    await request.db.query('INSERT INTO slow VALUES ($1, 0.2)', [request.params.kind])
    if (request.params.kind === 'node') {
      const stream = new PassThrough()
      setTimeout(() => stream.destroy(new Error('the disk')), 50)
      return stream
    }
    return new ReadableStream({ start (controller) { setTimeout(() => controller.error(new Error('the disk')), 50) } })
  })
  const port = await listen()
  for (const kind of ['node', 'web']) {
    const { status, body, complete } = await send(port, { path: `/${kind}` })
    t.match({ status, complete, ...JSON.parse(body) }, { status: 500, complete: true, code: 'FST_PG_SCOPE_ANSWER_FAILED' }, kind)
    t.ok(log.splice(0).some(({ level, err }) => level === 50 && err?.code === 'FST_PG_SCOPE_ANSWER_FAILED'), `${kind}: logged`)
  }
  t.same(await saved(), ['node', 'web'])
})
