import t from 'tap'
import { buildApp, schema } from '../../../harness/reliability/app.ts'
import { takeAllConnections } from '../../../harness/reliability/hogs.ts'
import { startServer } from '../../../harness/reliability/server.ts'
import { startPgProxy } from '../../../harness/pg-proxy.ts'

const server = await startServer()
t.teardown(() => server.stop())
await server.query(schema)

t.test('a server that has no connection left is not asked for one without a pause', async (t) => {
  const proxy = await startPgProxy(t, server)
  const app = await buildApp(proxy.connectionString(server.connectionString), { pool: { acquireTimeout: 1000 } })
  t.teardown(() => app.close())
  const hogs = await takeAllConnections(server.connectionString)
  proxy.reset()
  const answers = await Promise.allSettled(Array.from({ length: 8 }, () => app.db.query('SELECT 1')))
  await hogs.leave()
  for (const answer of answers) t.match(answer, { status: 'rejected', reason: { code: 'FST_PG_SCOPE_UNREACHABLE', statusCode: 503 } })
  t.ok(proxy.connections <= 100, `${proxy.connections} connections were asked for within a second`)
  t.equal((await app.db.query('SELECT 1')).rowCount, 1, 'and it serves again once there is one')
})
