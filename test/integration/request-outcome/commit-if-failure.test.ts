import Fastify from 'fastify'
import t from 'tap'
import { pgScope } from '../../../harness/plugin.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'

t.test('where commitIf commits in spite of an error, a COMMIT that fails answers with its own status', async (t) => {
  const postgres = await startTestPostgres(t)
  await postgres.query('CREATE TABLE once (text text UNIQUE DEFERRABLE INITIALLY DEFERRED)')
  await postgres.query("INSERT INTO once VALUES ('taken')")
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(pgScope, { connectionString: postgres.connectionString, commitIf: () => true })
  app.post('/thrown', async (request) => {
    await request.db.query("INSERT INTO once VALUES ('taken')")
    throw new Error('no')
  })
  app.post('/sent', async (request, reply) => {
    await request.db.query("INSERT INTO once VALUES ('taken')")
    return reply.code(422).send({ no: true })
  })
  for (const url of ['/thrown', '/sent']) {
    const response = await app.inject({ method: 'POST', url })
    t.equal(response.statusCode, 409, url)
    t.match(response.json(), { code: 'FST_PG_SCOPE_CONSTRAINT_VIOLATION' })
  }
})
