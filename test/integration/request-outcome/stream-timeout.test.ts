import { connect } from 'node:net'
import { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import { send } from '../../../harness/http-client.ts'
import pgScope, { type RouteOptions } from '../../../harness/plugin.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { waitFor } from '../../../harness/wait-for.ts'

const postgres = await startTestPostgres(t)
await postgres.query('CREATE TABLE downloads (id int)')
const { connectionString } = postgres
/** Rows without end: nothing but a limit ends this answer. */
const endless = 'SELECT generate_series(1, 1000000000) AS i, repeat(\'x\', 1000) AS text'

async function listen (t: Test, options: RouteOptions) {
  const lines: string[] = []
  const app = Fastify({ logger: { level: 'warn', stream: { write: (line: string) => { lines.push(line) } } } })
  t.teardown(() => app.close())
  await app.register(pgScope, { connectionString, closeTimeout: 1000 })
  const config = { db: options }
  app.get('/rows', { config }, async (request, reply) => {
    await request.db.query('INSERT INTO downloads VALUES (1)')
    return reply.send(request.db.stream(endless, [], { batchSize: 10 }))
  })
  app.get('/lines', { config }, (request, reply) => reply.type('text/plain').send(request.db.stream(endless).map(({ i }: { i: number }) => `${i}\n`)))
  app.get('/error', { config }, (request, reply) => reply.code(500).send(request.db.stream(endless)))
  app.get('/late', { config }, (request, reply) => reply.type('text/plain').send(Readable.from((async function * () {
    yield 'head\n'
    for await (const { i } of request.db.stream(endless)) yield `${i}${'x'.repeat(1000)}\n`
  })())))
  app.get('/again', { config }, async (request, reply) => {
    await request.db.query('INSERT INTO downloads VALUES (1)')
    return reply.type('text/plain').send(Readable.from((async function * () {
      yield 'head\n'
      for (let i = 0; ; i++) {
        await request.db.query('SELECT 1')
        yield `${i}${'x'.repeat(10000)}\n`
      }
    })()))
  })
  app.get('/short', { config }, (request, reply) => reply.type('text/plain').send(Readable.from((async function * () {
    for (let i = 0; i < 8; i++) {
      await request.db.query('SELECT 1')
      await request.db.commit()
      await sleep(100)
      yield `${i}\n`
    }
  })())))
  app.get('/few', { config }, (request) => request.db.stream('SELECT generate_series(1, 3) AS i'))
  await app.listen({ host: '127.0.0.1', port: 0 })
  return { app, lines, port: (app.server.address() as { port: number }).port }
}

/**
 * A client that reads a little now and then, for as long as it is given something; resolves with what it has read,
 * and how it ended.
 */
async function readSlowly (port: number, path: string): Promise<{ bytes: number, complete: boolean }> {
  const socket = connect({ port, host: '127.0.0.1' })
  let bytes = 0
  let tail = ''
  socket.on('error', () => {})
  socket.write(`GET ${path} HTTP/1.1\r\nhost: test\r\n\r\n`)
  socket.on('data', (chunk) => {
    bytes += chunk.length
    tail = (tail + chunk.toString('latin1')).slice(-5)
    socket.pause()
    setTimeout(() => socket.resume(), 10)
  })
  await new Promise((resolve) => socket.on('close', resolve))
  return { bytes, complete: tail === '0\r\n\r\n' }
}

for (const [path, options] of [['/rows', {}], ['/lines', {}], ['/error', {}], ['/rows', { mode: 'autocommit' }], ['/lines', { readOnly: true }], ['/late', {}], ['/late', { mode: 'autocommit' }], ['/again', {}]] as [string, RouteOptions][]) {
  t.test(`a client that reads ${path} slowly gives its connection back after streamTimeout ${JSON.stringify(options)}`, { timeout: 60000 }, async (t) => {
    await postgres.query('TRUNCATE downloads')
    const { app, lines, port } = await listen(t, { ...options, streamTimeout: 500 })
    const { bytes, complete } = await readSlowly(port, path)
    t.ok(bytes > 1000, 'it has read some of it')
    t.equal(complete, false, 'the body breaks off')
    await waitFor(() => app.db.stats().inUse === 0)
    await waitFor(async () => (await postgres.activity()).every(({ state }) => state === 'idle'))
    if (options.mode !== 'autocommit' && path !== '/again') t.equal((await postgres.query('SELECT FROM downloads')).rowCount, 0, 'its work is rolled back')
    t.match(lines.join('\n'), /streamTimeout/, 'the log says why')
  })
}

t.test('so does a client that does not read at all', { timeout: 60000 }, async (t) => {
  const { app, port } = await listen(t, { streamTimeout: 300 })
  const socket = connect({ port, host: '127.0.0.1' })
  t.teardown(() => socket.destroy())
  socket.on('error', () => {})
  socket.pause()
  socket.write('GET /rows HTTP/1.1\r\nhost: test\r\n\r\n')
  await waitFor(() => app.db.stats().counters.acquired > 0)
  await waitFor(() => app.db.stats().inUse === 0)
})

t.test('an answer that is read in time is whole, whatever the limit', async (t) => {
  for (const streamTimeout of [0, 5000, undefined]) {
    const { port } = await listen(t, { streamTimeout })
    const { complete, body } = await send(port, { path: '/few' })
    t.equal(complete, true)
    t.equal(String(body), '{"i":1}\n{"i":2}\n{"i":3}\n')
  }
})

t.test('a body that ends its transactions in time may last longer than streamTimeout', async (t) => {
  const { port } = await listen(t, { streamTimeout: 300 })
  const { complete, body } = await send(port, { path: '/short' })
  t.equal(complete, true)
  t.equal(String(body), '0\n1\n2\n3\n4\n5\n6\n7\n')
})
