// What runtimes.test.ts asks for. It runs on each runtime, from the package as it is published.
import Fastify from 'fastify'
import pgScope from 'fastify-pg-scope'

const app = Fastify({ forceCloseConnections: true })
await app.register(pgScope, { connectionString: process.env.DATABASE_URL, pool: { max: 3 } })

const add = (session, name) => session.query('INSERT INTO person (name) VALUES ($1)', [name])

app.post('/people/:name', async (request, reply) => {
  await add(request.db, request.params.name)
  if (request.query.fail !== undefined) throw new Error('not this one')
  return reply.code(201).send({ name: request.params.name })
})

app.post('/nested/:name', async (request) => {
  await add(request.db, request.params.name)
  await request.db.transaction(async (session) => {
    await add(session, 'inner')
    // The same session, found by the async context.
    await add(app.db.current(), 'current')
    throw new Error('undone alone')
  }).catch(() => {})
  await request.db.transaction((session) => add(session, `${request.params.name} inside`))
  return {}
})

app.get('/page', async (request) => {
  const results = await Promise.all([1, 2, 3].map((n) => request.db.query('SELECT $1::int AS n', [n])))
  return results.map(({ rows }) => rows[0].n)
})

app.get('/stream', async (request) => request.db.stream('SELECT n, repeat($1, 1000) AS text FROM generate_series(1, 20000) n', ['x']))

app.post('/slow/:name', async (request) => {
  await add(request.db, request.params.name)
  await request.db.query('SELECT pg_sleep(60)')
})

app.get('/stats', async () => app.db.stats())

await app.listen({ port: 0, host: '127.0.0.1' })
console.log(`open at http://127.0.0.1:${app.server.address().port}`)
process.on('SIGTERM', async () => {
  await app.close()
  console.log('closed')
  process.exit()
})
