// The app that the projects of all test runners here test.
import Fastify from 'fastify'
import pgScope from 'fastify-pg-scope'

export async function openApp () {
  const app = Fastify()
  await app.register(pgScope, { connectionString: process.env.DATABASE_URL })
  app.post('/things/:name', async (request) => {
    await request.db.query('INSERT INTO things VALUES ($1)', [request.params.name])
    return 'kept'
  })
  app.get('/things', async (request) => (await request.db.query('SELECT count(*)::int FROM things')).rows[0].count)
  return app
}

/** Adds a thing and returns how many there are. Each test does so: it passes only if the tests do not see each other. */
export async function addThing (app, name) {
  const { body } = await app.inject({ method: 'POST', url: `/things/${name}` })
  if (body !== 'kept') throw new Error(body)
  return Number((await app.inject('/things')).body)
}

/** The same over a socket: in jest, Fastify's inject() loads an ES module by require(), which needs Node 24.9. */
export async function addThingOverHttp (app, name) {
  if (!app.server.listening) await app.listen({ port: 0, host: '127.0.0.1' })
  const address = `http://127.0.0.1:${app.server.address().port}`
  const response = await fetch(`${address}/things/${name}`, { method: 'POST' })
  if (!response.ok) throw new Error(await response.text())
  return Number(await (await fetch(`${address}/things`)).text())
}
