import { Readable, Transform } from 'node:stream'
import t from 'tap'
import { gate, outcomeCases } from './outcome-cases.ts'
import { hangUp, send } from '../../../harness/http-client.ts'
import { waitFor } from '../../../harness/wait-for.ts'

const { test } = await outcomeCases(t)
const insert = 'INSERT INTO note VALUES ($1)'
const series = (n: number) => `SELECT n, repeat('x', 100) AS filler FROM generate_series(1, ${n}) AS n`

test('db.stream() as the reply becomes NDJSON, committed before its end is read', {}, async (t, { app, listen, saved }) => {
  app.get('/', async (request) => {
    await request.db.query(insert, ['kept'])
    return request.db.stream(series(5000))
  })
  app.get('/sent', (request, reply) => { reply.code(201).send(request.db.stream(series(3))) })
  app.get('/typed', async (request, reply) => reply.type('text/plain').send(request.db.stream(series(1))))
  app.get('/none', async (request) => request.db.stream(series(0)))
  const port = await listen()
  const { status, headers, body, complete } = await send(port)
  t.match({ status, complete, type: headers['content-type'] }, { status: 200, complete: true, type: /^application\/x-ndjson/ })
  const rows = body.trimEnd().split('\n').map((line) => JSON.parse(line).n)
  t.same(rows, Array.from({ length: 5000 }, (_, i) => i + 1))
  t.same(await saved(), ['kept'], 'the row is there when the body is read to its end')
  t.match(await send(port, { path: '/sent' }), { status: 201, complete: true, body: /"n":3.*\n$/ })
  t.match((await send(port, { path: '/typed' })).headers, { 'content-type': /^text\/plain/ })
  t.match(await send(port, { path: '/none' }), { status: 200, body: '', complete: true })
})

test('db.stream() through a Transform or an async generator keeps the transaction open to its end', {}, async (t, { app, listen, saved }) => {
  app.get('/transform', async (request) => {
    await request.db.query(insert, ['transform'])
    return request.db.stream(series(5000)).pipe(new Transform({ writableObjectMode: true, transform (row, _encoding, done) { done(null, `${row.n},`) } }))
  })
  app.get('/generator', async (request) => {
    await request.db.query(insert, ['generator'])
    const rows = request.db.stream(series(5000))
    return Readable.from((async function * () { for await (const { n } of rows) yield `${n},` })())
  })
  app.get('/web', async (request) => {
    await request.db.query(insert, ['web'])
    const rows = request.db.stream(series(5000))
    return Readable.toWeb(Readable.from((async function * () { for await (const { n } of rows) yield Buffer.from(`${n},`) })()))
  })
  const port = await listen()
  const expected = Array.from({ length: 5000 }, (_, i) => `${i + 1},`).join('')
  for (const name of ['transform', 'generator', 'web']) {
    const { status, body, complete } = await send(port, { path: `/${name}` })
    t.match({ status, complete }, { status: 200, complete: true }, name)
    t.ok(body === expected, `${name}: every row, once`)
    t.ok((await saved()).includes(name))
  }
})

for (const [name, route] of [
  ['rows', (rows: Readable) => rows],
  ['a transform', (rows: Readable) => rows.pipe(new Transform({ writableObjectMode: true, transform (row, _encoding, done) { done(null, JSON.stringify(row)) } }))],
  ['a generator', (rows: Readable) => Readable.from((async function * () { for await (const row of rows) yield JSON.stringify(row) })())]
] as const) {
  test(`a hang-up in the middle of a stream of ${name} frees the connection within a second, and rolls back`, {}, async (t, { app, listen, saved, busy }) => {
    app.get('/', async (request) => {
      await request.db.query(insert, ['lost'])
      return route(request.db.stream(series(1000000)))
    })
    const { status } = await hangUp(await listen(), {}, { after: { bytes: 100000 } })
    t.equal(status, 200)
    await waitFor(async () => app.db.stats().inUse === 0 && (await busy()).length === 0, { timeout: 1000 })
    t.same(await saved(), [])
  })
}

test('a slow client of a stream keeps memory constant, and the server waits for it', {}, async (t, { app, listen }) => {
  let read = 0
  app.get('/', async (request) => {
    const rows = request.db.stream(series(200000))
    rows.on('data', () => { read++ })
    return rows
  })
  const port = await listen()
  const stalled = gate()
  const over = hangUp(port, {}, { after: stalled.opened })
  await waitFor(() => read > 0)
  t.ok(read < 200000)
  stalled.open()
  await over
  await waitFor(() => app.db.stats().inUse === 0)
})

test('another stream as the reply: committed before the first byte, and the connection is back before the download starts', {}, async (t, { app, listen, saved }) => {
  const seen: { inUse?: number, saved?: string[] } = {}
  app.get('/', async (request) => {
    await request.db.query(insert, ['kept'])
    return Readable.from((async function * () {
      seen.inUse = app.db.stats().inUse
      seen.saved = await saved()
      yield 'file'
    })())
  })
  app.get('/refused', async (request) => {
    await request.db.query('INSERT INTO unique_note VALUES ($1), ($1)', ['twice'])
    return Readable.from(['never sent'])
  })
  const port = await listen()
  t.match(await send(port), { status: 200, body: 'file', complete: true })
  t.same(seen, { inUse: 0, saved: ['kept'] })
  t.match(await send(port, { path: '/refused' }), { status: 409, complete: true })
})

test('another stream that breaks: its work was committed before the first byte', {}, async (t, { app, listen, saved }) => {
  app.get('/', async (request) => {
    await request.db.query(insert, ['kept'])
    return Readable.from((async function * () {
      yield 'x'.repeat(100000)
      await new Promise((resolve) => setTimeout(resolve, 50))
      throw new Error('the disk')
    })())
  })
  const port = await listen()
  t.match(await send(port), { status: 200, complete: false })
  await hangUp(port, {}, { after: 'headers' })
  t.same(await saved(), ['kept', 'kept'])
})

test('a stream that was read to its end by the handler leaves an ordinary answer', {}, async (t, { app, listen, saved }) => {
  app.get('/', async (request) => {
    await request.db.query(insert, ['kept'])
    let sum = 0
    for await (const { n } of request.db.stream(series(1000))) sum += n
    return { sum }
  })
  app.get('/left', async (request) => {
    await request.db.query(insert, ['left'])
    for await (const { n } of request.db.stream(series(1000))) if (n === 10) break
    return 'x'
  })
  const port = await listen()
  t.match(await send(port), { status: 200, body: '{"sum":500500}' })
  t.match(await send(port, { path: '/left' }), { status: 200, body: 'x' })
  t.same(await saved(), ['kept', 'left'])
})

test('a streamed reply with an error status rolls back', {}, async (t, { app, listen, saved }) => {
  app.get('/', async (request, reply) => {
    await request.db.query(insert, ['lost'])
    return reply.code(422).type('text/plain').send(Readable.from(['no']))
  })
  t.match(await send(await listen()), { status: 422, body: 'no', complete: true })
  t.same(await saved(), [])
})

test('setRollbackOnly() with a reply of db.stream(): the rows arrive, nothing is saved', {}, async (t, { app, listen, saved }) => {
  app.get('/', async (request) => {
    await request.db.query(insert, ['dry run'])
    request.db.setRollbackOnly()
    return request.db.stream(series(2000))
  })
  const { status, body, complete } = await send(await listen())
  t.match({ status, complete }, { status: 200, complete: true })
  t.equal(body.split('\n').length, 2001)
  t.same(await saved(), [])
})

test('an error status with a reply of db.stream(): the rows arrive, nothing is saved', {}, async (t, { app, listen, saved }) => {
  app.get('/', async (request, reply) => {
    await request.db.query(insert, ['lost'])
    return reply.code(409).send(request.db.stream(series(2000)))
  })
  const { status, body, complete } = await send(await listen())
  t.match({ status, complete }, { status: 409, complete: true })
  t.equal(body.split('\n').length, 2001)
  t.same(await saved(), [])
})
