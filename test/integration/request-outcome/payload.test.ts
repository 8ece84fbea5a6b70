import { Readable } from 'node:stream'
import t from 'tap'
import { outcomeCases } from './outcome-cases.ts'
import { send } from '../../../harness/http-client.ts'

// What Fastify looks at only after the last onSend hook.
const { test } = await outcomeCases(t)
const insert = 'INSERT INTO note VALUES ($1)'

test('a payload that Fastify cannot send is an error, and nothing is saved', {}, async (t, { app, listen, saved }) => {
  app.get('/', async (request, reply) => {
    await request.db.query(insert, ['lost'])
    return reply.serializer(() => ({ no: 'string' }) as never).send({ x: 1 })
  })
  app.get('/hook', { onSend: async () => ({ no: 'string' }) }, async (request) => {
    await request.db.query(insert, ['lost'])
    return 'x'
  })
  const port = await listen()
  for (const path of ['/', '/hook']) t.match(await send(port, { path }), { status: 500, complete: true }, path)
  t.same(await saved(), [])
})

test('a header that cannot be sent is an error, and nothing is saved', {}, async (t, { app, listen, saved }) => {
  app.get('/', async (request, reply) => {
    await request.db.query(insert, ['lost'])
    return reply.header('x-name', 'two\nlines').send('x')
  })
  t.match(await send(await listen()), { status: 500, complete: true })
  t.same(await saved(), [])
})

test('an answer that cannot be written because the handler wrote its own head does not leave the client waiting', {}, async (t, { app, listen }) => {
  app.get('/', async (request, reply) => {
    await request.db.query(insert, ['whichever'])
    reply.raw.writeHead(200)
    return 'x'
  })
  const { complete } = await send(await listen())
  t.notOk(complete, 'the socket is closed')
})

test('the status of a Response that is sent decides', {}, async (t, { app, listen, saved }) => {
  app.get<{ Params: { status: number } }>('/:status', async (request) => {
    await request.db.query(insert, [String(request.params.status)])
    return new Response('web', { status: Number(request.params.status), headers: { 'x-web': 'yes' } })
  })
  const port = await listen()
  t.match(await send(port, { path: '/201' }), { status: 201, headers: { 'x-web': 'yes' }, body: 'web', complete: true })
  t.match(await send(port, { path: '/409' }), { status: 409, body: 'web', complete: true })
  t.same(await saved(), ['201'])
})

test('a Response around db.stream() is read to its end before COMMIT', {}, async (t, { app, listen, saved }) => {
  app.get('/', async (request) => {
    await request.db.query(insert, ['kept'])
    const rows = request.db.stream('SELECT generate_series(1, 5000) AS n')
    return new Response(Readable.toWeb(Readable.from((async function * () { for await (const { n } of rows) yield Buffer.from(`${n},`) })())) as never)
  })
  const { status, body, complete } = await send(await listen())
  t.match({ status, complete }, { status: 200, complete: true })
  t.ok(body === Array.from({ length: 5000 }, (_, i) => `${i + 1},`).join(''))
  t.same(await saved(), ['kept'])
})

test('buffers and empty payloads are sent as they are', {}, async (t, { app, listen, saved }) => {
  app.get('/buffer', async (request) => {
    await request.db.query(insert, ['buffer'])
    return Buffer.from('bytes')
  })
  app.get('/null', async (request) => {
    await request.db.query(insert, ['null'])
    return null
  })
  const port = await listen()
  t.match(await send(port, { path: '/buffer' }), { status: 200, body: 'bytes' })
  t.match(await send(port, { path: '/null' }), { status: 200, complete: true })
  t.same(await saved(), ['buffer', 'null'])
})
