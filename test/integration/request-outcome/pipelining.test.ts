import { connect, type AddressInfo } from 'node:net'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { gate } from './outcome-cases.ts'
import pgScope from '../../../harness/plugin.ts'
import { HttpResponseReader, type HttpResponse } from '../../../harness/http-response.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { waitFor } from '../../../harness/wait-for.ts'

const postgres = await startTestPostgres(t)
await postgres.query('CREATE TABLE note (text text)')
const saved = async (): Promise<string[]> => (await postgres.query('SELECT text FROM note ORDER BY 1')).rows.map(({ text }) => text)

async function setUp (
  t: Test, options: { return503OnClosing?: boolean } = {}
): Promise<{ app: FastifyInstance, listen: () => Promise<number> }> {
  await postgres.query('TRUNCATE note')
  const app = Fastify(options)
  t.teardown(() => app.close())
  await app.register(pgScope, { connectionString: postgres.connectionString })
  return {
    app,
    async listen () {
      await app.listen({ port: 0, host: '127.0.0.1' })
      return (app.server.address() as AddressInfo).port
    }
  }
}

const insert = 'INSERT INTO note VALUES ($1)'

/** Sends all requests at once on one connection, and reads until that ends. */
function pipeline (port: number, paths: string[]): { responses: Promise<HttpResponse[]>, text: () => string } {
  const socket = connect(port, '127.0.0.1')
  const chunks: Buffer[] = []
  socket.on('data', (chunk) => chunks.push(chunk))
  socket.on('error', () => {})
  socket.write(paths.map((path) => `GET ${path} HTTP/1.1\r\nhost: x\r\n\r\n`).join(''))
  const text = (): string => Buffer.concat(chunks).toString()
  const responses = new Promise<HttpResponse[]>((resolve) => socket.on('close', () => {
    resolve(text().split(/(?=HTTP\/1\.1 )/).filter((part) => part !== '').map((part) => {
      const reader = new HttpResponseReader('GET')
      reader.push(Buffer.from(part))
      return reader.response()
    }))
  }))
  return { responses, text }
}

for (const [name, order] of [['in their order', [0, 1, 2]], ['the other way round', [2, 1, 0]], ['the one in the middle last', [2, 0, 1]]] as const) {
  for (const closing of ['before they have answered', 'when the first to finish has answered'] as const) {
    t.test(`pipelined requests that finish ${name} are all answered and saved by an app that closes ${closing}`, async (t) => {
      const { app, listen } = await setUp(t)
      const reached = [gate(), gate(), gate()]
      const goOn = [gate(), gate(), gate()]
      let answered = 0
      app.addHook('onSend', async () => { answered++ })
      app.get<{ Params: { i: string } }>('/:i', async (request) => {
        const i = Number(request.params.i)
        await request.db.query(insert, [`saved ${i}`])
        reached[i]!.open()
        await goOn[i]!.opened
        return `answer ${i}`
      })
      const { responses } = pipeline(await listen(), ['/0', '/1', '/2'])
      await Promise.all(reached.map(({ opened }) => opened))
      let closed: Promise<unknown> | undefined
      if (closing === 'before they have answered') closed = app.close()
      for (const [position, i] of order.entries()) {
        goOn[i]!.open()
        await waitFor(() => answered > position && app.db.stats().inUse === 2 - position)
        closed ??= app.close()
      }
      const answers = await responses
      t.match(answers, [0, 1, 2].map((i) => ({ status: 200, complete: true, body: `answer ${i}` })))
      t.same(await saved(), ['saved 0', 'saved 1', 'saved 2'])
      await closed
    })
  }
}

t.test('pipelined requests of an app that serves on while it closes', async (t) => {
  const { app, listen } = await setUp(t, { return503OnClosing: false })
  const reached = gate()
  const goOn = gate()
  app.get<{ Params: { i: string } }>('/:i', async (request) => {
    await request.db.query(insert, [`saved ${request.params.i}`])
    reached.open()
    await goOn.opened
    return `answer ${request.params.i}`
  })
  const port = await listen()
  const { responses } = pipeline(port, ['/0', '/1', '/2'])
  await reached.opened
  await waitFor(() => app.db.stats().inUse === 3)
  const closed = app.close()
  goOn.open()
  const answers = await responses
  t.match(answers, [0, 1, 2].map((i) => ({ status: 200, complete: true, body: `answer ${i}` })))
  t.equal(answers[2]!.headers.connection, 'close', 'the app does not wait until keepAliveTimeout has passed')
  t.same(await saved(), ['saved 0', 'saved 1', 'saved 2'])
  await closed
})
