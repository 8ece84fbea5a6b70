// One connection for all clients of a server-sent event stream: the sample of docs/listen-and-lock.md, under load.
import { once } from 'node:events'
import { connect, type AddressInfo } from 'node:net'
import Fastify from 'fastify'
import t from 'tap'
import pgScope from '../../../lib/index.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { waitFor } from '../../../harness/wait-for.ts'

const postgres = await startTestPostgres(t)
const count = 1000

t.test('1,000 clients of server-sent events get each committed event from one connection', async (t) => {
  const app = Fastify()
  await app.register(pgScope, { connectionString: postgres.connectionString, pool: { max: 2 } })
  const clients = new Set<NodeJS.WritableStream>()
  await app.db.listen('orders', (payload) => { for (const client of clients) client.write(`data: ${payload}\n\n`) })
  app.get('/events', (_request, reply) => {
    reply.hijack()
    reply.raw.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders()
    clients.add(reply.raw)
    reply.raw.on('close', () => clients.delete(reply.raw))
  })
  app.post('/orders', async (request) => {
    await request.db.notify('orders', '{"id":7}')
    return { ok: true }
  })
  await app.listen({ port: 0, host: '127.0.0.1', backlog: count })
  const { port } = app.server.address() as AddressInfo
  const received = Array.from({ length: count }, () => '')
  const sockets = received.map((_, i) => {
    const socket = connect(port, '127.0.0.1', () => socket.write('GET /events HTTP/1.1\r\nhost: x\r\n\r\n'))
    return socket.on('data', (chunk) => { received[i] += String(chunk) }).on('error', () => {})
  })
  t.teardown(async () => {
    for (const socket of sockets) socket.destroy()
    await app.close()
  })
  await waitFor(() => clients.size === count, { timeout: 30000 })
  t.equal((await app.inject({ method: 'POST', url: '/orders' })).statusCode, 200)
  await waitFor(() => received.every((text) => text.includes('data: {"id":7}\n\n')), { timeout: 30000 })
  const { rows: [row] } = await postgres.query('SELECT count(*)::int AS open FROM pg_stat_activity WHERE backend_type = \'client backend\' AND query LIKE \'LISTEN%\'')
  t.equal(row.open, 1)
  const [first] = sockets
  first!.destroy()
  await once(first!, 'close')
  await waitFor(() => clients.size === count - 1)
})
