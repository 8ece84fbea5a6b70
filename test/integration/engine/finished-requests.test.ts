// A request that is over must be kept by nobody, however long its sockets and its connections live.
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { runScript } from '../../../harness/script.ts'

const postgres = await startTestPostgres(t)
const plugin = fileURLToPath(new URL('../../../harness/plugin.ts', import.meta.url))

const source = `
  import { once } from 'node:events'
  import { connect } from 'node:net'
  import { setTimeout as sleep } from 'node:timers/promises'
  import Fastify from 'fastify'
  import pgScope from ${JSON.stringify(plugin)}
  const app = Fastify()
  let requests = []
  let listeners = 0
  const seen = (request) => {
    requests.push(new WeakRef(request))
    listeners = Math.max(listeners, request.raw.socket.listenerCount('close'))
  }
  // Before the plugin's own hook.
  app.addHook('onRequest', async (request) => {
    if (!request.url.startsWith('/early')) return
    seen(request)
    await request.db.query('SELECT 1')
    if (request.url === '/early-error') throw new Error('not today')
  })
  await app.register(pgScope, { connectionString: process.env.TEST_URL, pool: { max: 4 } })
  const handler = async (request) => {
    seen(request)
    return (await request.db.query('SELECT 1 AS one')).rows
  }
  app.post('/default', handler)
  app.post('/settings', { config: { db: { settings: (request) => ({ 'app.path': request.url }) } } }, handler)
  app.post('/autocommit', { config: { db: { mode: 'autocommit' } } }, handler)
  app.post('/after', async (request) => {
    seen(request)
    request.db.afterCommit(() => request.log.info('committed'))
    await request.db.query('SELECT 1')
    return 'x'
  })
  app.post('/error', async (request) => {
    await handler(request)
    throw new Error('no')
  })
  app.post('/early', handler)
  app.post('/early-error', handler)
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = app.server.address()
  const sockets = await Promise.all(Array.from({ length: 4 }, async () => {
    const socket = connect(port, '127.0.0.1')
    await once(socket, 'connect')
    return socket
  }))
  const result = {}
  for (const path of ['/default', '/settings', '/autocommit', '/after', '/error', '/early', '/early-error']) {
    requests = []
    listeners = 0
    for (let round = 0; round < 3; round++) {
      await Promise.all(sockets.map(async (socket) => {
        socket.write('POST ' + path + ' HTTP/1.1\\r\\nhost: x\\r\\ncontent-type: application/json\\r\\ncontent-length: 2\\r\\n\\r\\n{}')
        await once(socket, 'data')
      }))
    }
    for (let i = 0; i < 5; i++) {
      await sleep(20)
      globalThis.gc()
    }
    result[path] = { asked: requests.length, kept: requests.filter((request) => request.deref() !== undefined).length, listeners }
  }
  console.log(JSON.stringify(result))
  process.exit()`

const { out, errors, code } = await runScript(source, { url: postgres.connectionString, flags: ['--expose-gc'], limit: 120000 })
t.equal(code, 0, errors)
const result = JSON.parse(out) as Record<string, { asked: number, kept: number, listeners: number }>
const usual = result['/default']!.listeners
for (const [path, { asked, kept, listeners }] of Object.entries(result)) {
  t.test(`${path.slice(1)}: requests that have ended are not kept in memory, while their sockets stay open`, async (t) => {
    t.ok(asked >= 12)
    t.equal(kept, 0)
    t.ok(listeners <= usual + 2, `${listeners} listeners at a socket, usually ${usual}`)
  })
}
