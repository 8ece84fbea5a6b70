import Fastify from 'fastify'
import t from 'tap'
import pgScope from '../../../harness/plugin.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'

t.test('HEAD on a route that answers with rows logs no error and reads no rows', async (t) => {
  const postgres = await startTestPostgres(t)
  const lines: string[] = []
  const app = Fastify({ logger: { level: 'warn', stream: { write: (line: string) => { lines.push(line) } } } })
  t.teardown(() => app.close())
  await app.register(pgScope, { connectionString: postgres.connectionString })
  app.get('/', async (request) => request.db.stream('SELECT n FROM generate_series(1, 100000) AS n'))
  const response = await app.inject({ method: 'HEAD', url: '/' })
  t.equal(response.statusCode, 200)
  t.equal(response.headers['content-type'], 'application/x-ndjson')
  t.strictSame(lines, [])
  t.equal(app.db.stats().inUse, 0)
})
