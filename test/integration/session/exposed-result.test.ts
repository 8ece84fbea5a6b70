import Fastify from 'fastify'
import t from 'tap'
import pgScope from '../../../harness/plugin.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'

t.test('a result that a handler answers with shows nothing of the connection', async (t) => {
  const postgres = await startTestPostgres(t)
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(pgScope, { connectionString: postgres.connectionString })
  app.get('/', async (request) => request.db.query('SELECT 1 AS n'))
  const { body } = await app.inject('/')
  t.match(body, '"n":1')
  t.notMatch(body, /secretKey|processID|connectionParameters/)
})
