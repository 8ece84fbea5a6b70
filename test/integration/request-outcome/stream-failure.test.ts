import { Readable, Transform } from 'node:stream'
import t from 'tap'
import { outcomeCases } from './outcome-cases.ts'
import { send } from '../../../harness/http-client.ts'
import { waitFor } from '../../../harness/wait-for.ts'

const { test } = await outcomeCases(t)
const insert = 'INSERT INTO note VALUES ($1)'
const series = (n: number) => `SELECT n, repeat('x', 100) AS filler FROM generate_series(1, ${n}) AS n`

test('a COMMIT that fails at the end of a streamed reply breaks the body', {}, async (t, { app, listen, saved, log }) => {
  app.get('/rows', async (request) => {
    await request.db.query('INSERT INTO unique_note VALUES ($1), ($1)', ['twice'])
    return request.db.stream(series(2000))
  })
  app.get('/transform', async (request) => {
    await request.db.query('INSERT INTO unique_note VALUES ($1), ($1)', ['twice'])
    return request.db.stream(series(2000)).pipe(new Transform({ writableObjectMode: true, transform (row, _encoding, done) { done(null, `${row.n},`) } }))
  })
  const port = await listen()
  for (const path of ['/rows', '/transform']) {
    const { complete } = await send(port, { path })
    t.notOk(complete, `${path}: never a complete body`)
  }
  t.same(await saved(), [])
  t.ok(log.some(({ err }) => err?.code === 'FST_PG_SCOPE_CONSTRAINT_VIOLATION'))
})

test('a COMMIT that fails before the first byte of a streamed reply is a proper error', {}, async (t, { app, listen, saved }) => {
  app.get('/', async (request) => {
    await request.db.query('INSERT INTO unique_note VALUES ($1), ($1)', ['twice'])
    return request.db.stream(series(0))
  })
  const { status, body, complete } = await send(await listen())
  t.equal(status, 409)
  t.match(JSON.parse(body), { code: 'FST_PG_SCOPE_CONSTRAINT_VIOLATION' })
  t.ok(complete)
  t.same(await saved(), [])
})

test('a source that fails before the first byte is a proper error', {}, async (t, { app, listen, saved }) => {
  app.get('/', async (request) => {
    await request.db.query(insert, ['lost'])
    return request.db.stream('SELECT 1 / 0')
  })
  app.get('/foreign', async (request) => {
    await request.db.query(insert, ['committed before the stream began'])
    return new Readable({ read () { this.destroy(new Error('no file')) } })
  })
  const port = await listen()
  t.match(await send(port), { status: 500, body: /division by zero/, complete: true })
  t.same(await saved(), [])
  t.match(await send(port, { path: '/foreign' }), { status: 500, body: /FST_PG_SCOPE_ANSWER_FAILED/, complete: true }, 'the work is saved, and the error says so')
})

test('a source that fails after the first byte breaks the body, and nothing is saved', {}, async (t, { app, listen, saved }) => {
  app.get('/rows', async (request) => {
    await request.db.query(insert, ['lost'])
    return request.db.stream('SELECT 1 / (3000 - n) AS x, repeat($1, 100) FROM generate_series(1, 5000) AS n', ['x'])
  })
  app.get('/generator', async (request) => {
    await request.db.query(insert, ['lost'])
    const rows = request.db.stream(series(5000))
    return Readable.from((async function * () {
      for await (const { n } of rows) {
        if (n === 3000) throw new Error('in the middle')
        yield `${n},${'x'.repeat(100)}`
      }
    })())
  })
  const port = await listen()
  for (const path of ['/rows', '/generator']) {
    const { status, complete } = await send(port, { path })
    t.match({ status, complete }, { status: 200, complete: false }, path)
    await waitFor(() => app.db.stats().inUse === 0)
  }
  t.same(await saved(), [])
})

test('a statement that fails beside a streamed reply breaks the body', {}, async (t, { app, listen, saved }) => {
  app.get('/', async (request) => {
    await request.db.query(insert, ['lost'])
    const rows = request.db.stream(series(20000))
    rows.once('data', () => request.db.query('SELECT 1 / 0').catch(() => {}))
    return rows
  })
  const { complete, status } = await send(await listen())
  t.notOk(complete && status < 400, 'never a complete success')
  t.same(await saved(), [])
})
