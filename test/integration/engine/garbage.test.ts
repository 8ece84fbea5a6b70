// What a piece of work leaves behind must die young: what is kept until a major collection is copied twice and
// collected late.
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { runScript } from '../../../harness/script.ts'
import { onlyQueue } from '../../../harness/variant.ts'

const postgres = await startTestPostgres(t)
const plugin = fileURLToPath(new URL('../../../harness/plugin.ts', import.meta.url))

/** A small nursery, so that it is collected often. */
const flags = ['--max-semi-space-size=4', '--min-semi-space-size=4', '--expose-gc']

const source = `
  import { once } from 'node:events'
  import { connect } from 'node:net'
  import { getHeapSpaceStatistics } from 'node:v8'
  import Fastify from 'fastify'
  import pgScope from ${JSON.stringify(plugin)}
  const app = Fastify()
  await app.register(pgScope, { connectionString: process.env.TEST_URL, pool: { max: 5 } })
  app.get('/default', async (request) => (await request.db.query('SELECT $1::int AS one', [1])).rows[0])
  app.post('/body', async (request) => (await request.db.query('SELECT $1::int AS one', [1])).rows[0])
  app.get('/retry', { config: { db: { retry: 2 } } }, async (request) => (await request.db.query('SELECT $1::int AS one', [1])).rows[0])
  app.get('/hook', async ({ db }) => {
    db.afterCommit(() => {})
    return (await db.query('SELECT $1::int AS one', [1])).rows[0]
  })
  app.get('/autocommit', { config: { db: { mode: 'autocommit' } } }, async (request) => (await request.db.query('SELECT $1::int AS one', [1])).rows[0])
  // What V8 has learnt of the boot of an app with many routes must not make requests live longer.
  for (let i = 0; i < 1000; i++) app.get('/more/' + i, async () => i)
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = app.server.address()

  async function requester (path, method = 'GET', rest = '\\r\\n') {
    const socket = connect(port, '127.0.0.1')
    await once(socket, 'connect')
    const bytes = Buffer.from(method + ' ' + path + ' HTTP/1.1\\r\\nhost: x\\r\\n' + rest)
    let answered
    socket.on('data', () => answered())
    return (done) => { answered = done; socket.write(bytes) }
  }
  const call = (fn) => async () => (done) => { fn().then(done) }
  const kinds = {
    'requests': () => requester('/default'),
    'requests with a body': () => requester('/body', 'POST', 'content-type: text/plain\\r\\ncontent-length: 1\\r\\n\\r\\nx'),
    'requests with retry': () => requester('/retry'),
    'requests with a hook': () => requester('/hook'),
    'requests in autocommit': () => requester('/autocommit'),
    'units of work with something else in them': call(() => app.db.scope(async (session) => {
      session.afterCommit(() => {})
      await session.transaction((inner) => inner.query('SELECT $1::int', [1]))
    })),
    'units of work': call(() => app.db.scope((session) => session.query('SELECT $1::int', [1]))),
    'statements of the app': call(() => app.db.query('SELECT $1::int', [1]))
  }
  // Twenty at a time, so that most of them wait for a connection.
  const work = (ones, times) => Promise.all(ones.map((one) => new Promise((resolve) => {
    let left = times
    const next = () => { if (left-- > 0) one(next); else resolve() }
    next()
  })))
  const old = () => getHeapSpaceStatistics().find(({ space_name }) => space_name === 'old_space').space_used_size
  const result = {}
  for (const [name, make] of Object.entries(kinds)) {
    const ones = await Promise.all(Array.from({ length: 20 }, make))
    // In the middle of work: whatever is under way is old from then on, and must keep nothing that comes after it.
    for (let i = 0; i < 3; i++) {
      const working = work(ones, 50)
      for (let turns = 0; turns < 20; turns++) await new Promise(setImmediate)
      globalThis.gc()
      await working
    }
    // A major collection in one of the slices makes a nonsense of that one only.
    const slices = []
    for (let slice = 0; slice < 5; slice++) {
      const before = old()
      await work(ones, 60)
      slices.push(Math.round((old() - before) / 1200))
    }
    result[name] = slices.sort((a, b) => a - b)[2]
  }
  console.log(JSON.stringify(result))
  process.exit()`

/** Bytes for each that may grow old: next to nothing. */
const limit = 600

onlyQueue(t, 'each session has a connection of its own, which lives for as long as a login takes').test('no work leaves garbage that grows old', async (t) => {
  const { out, errors, code } = await runScript(source, { url: postgres.connectionString, flags, limit: 120000 })
  t.equal(code, 0, errors)
  for (const [kind, bytes] of Object.entries(JSON.parse(out) as Record<string, number>)) {
    t.ok(bytes < limit, `${kind}: ${bytes} bytes for each`)
  }
})
