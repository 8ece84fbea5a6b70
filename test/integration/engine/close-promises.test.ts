import type { AddressInfo } from 'node:net'
import Fastify from 'fastify'
import t from 'tap'
import { send } from '../../../harness/http-client.ts'
import pgScope, { type RouteOptions } from '../../../harness/plugin.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'

const postgres = await startTestPostgres(t)
await postgres.query('CREATE TABLE note (text text)')
const never = (): Promise<never> => new Promise(() => {})

const waits: Record<string, RouteOptions> = {
  'settings(request)': { settings: never },
  'settings(request) in mode autocommit': { settings: never, mode: 'autocommit' },
  'role(request)': { role: never },
  'commitIf(request, reply)': { commitIf: never },
  'commitIf(request, reply) with onAbort \'commit\'': { commitIf: never, onAbort: 'commit' }
}

for (const [name, db] of Object.entries(waits)) {
  t.test(`close() ends the wait for a promise of ${name} that never settles: the client reads 503, and nothing is saved`, async (t) => {
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(pgScope, { connectionString: postgres.connectionString, closeTimeout: 100 })
    let reached!: () => void
    const asked = new Promise<void>((resolve) => { reached = resolve })
    app.get('/', { config: { db }, onSend: async () => { reached() } }, async (request) => {
      setImmediate(reached)
      return (await request.db.query('INSERT INTO note VALUES (\'lost\')')).rowCount
    })
    await app.listen({ port: 0, host: '127.0.0.1' })
    const answer = send((app.server.address() as AddressInfo).port)
    await asked
    await app.close()
    t.match(await answer, { status: 503, body: /FST_PG_SCOPE_CLOSED/ })
    t.same((await postgres.query('SELECT * FROM note')).rows, [])
  })
}
