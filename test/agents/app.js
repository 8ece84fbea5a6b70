// An app whose requests a tracing agent follows: the test loads the agent first, as its documentation says.
import Fastify from 'fastify'
import pgScope from '../../dist/lib/index.js'

for (const event of ['unhandledRejection', 'uncaughtException']) {
  process.on(event, (error) => {
    console.error(event, error)
    process.exit(70)
  })
}

const app = Fastify()
const { plugins = [], registerOtel, finish } = globalThis
for (const plugin of plugins) await app.register(plugin)
await app.register(pgScope, { connectionString: process.env.TEST_DATABASE, pool: { max: 4 } })
registerOtel?.(app)

const insert = 'INSERT INTO note (text) VALUES ($1)'
app.get('/read/:n', async (request) => {
  const { n } = request.params
  const results = await Promise.all([1, 2, 3].map(() => request.db.query('SELECT $1::int AS n', [n])))
  return results.map(({ rows }) => rows[0].n)
})
app.post('/write/:n', async (request, reply) => {
  await request.db.query(insert, [`written ${request.params.n}`])
  await request.db.transaction((db) => db.query('SELECT count(*) FROM note'))
  return reply.code(201).send({ written: request.params.n })
})
// The constraint is checked by COMMIT.
app.post('/refused/:n', async (request) => {
  await request.db.query("INSERT INTO note VALUES ('refused', 1)")
  return { written: 'twice' }
})
app.get('/slow/:n', async (request) => {
  await request.db.query('SELECT pg_sleep(60)')
})
app.get('/scope/:n', async (request) => {
  const { rows } = await app.db.scope((db) => db.query('SELECT $1::int AS n', [request.params.n]))
  return rows
})
app.get('/lease/:n', async (request) => app.db.lease(async (client) => {
  const { rows } = await client.query('SELECT $1::int AS n', [request.params.n])
  return rows
}))
app.get('/stream/:n', async (request, reply) => {
  reply.type('text/plain')
  return request.db.stream('SELECT n FROM generate_series(1, 50) AS n')
})

await app.listen({ port: 0, host: '127.0.0.1' })
console.log(`listening on ${app.server.address().port}`)

process.on('message', async (message) => {
  if (message === 'stats') return process.send({ inUse: app.db.stats().inUse })
  await app.close()
  process.send({ closed: true, openSpans: await finish?.() ?? [] }, () => process.disconnect())
})
