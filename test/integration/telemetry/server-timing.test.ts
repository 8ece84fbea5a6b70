// What a browser's developer tools can read about a response.
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import { pgScope } from '../../../harness/plugin.ts'
import { send } from '../../../harness/http-client.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'

const postgres = await startTestPostgres(t)
await postgres.query('CREATE TABLE note (text text UNIQUE DEFERRABLE INITIALLY DEFERRED)')

async function start (t: Test, options: object = {}) {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(pgScope, { connectionString: postgres.connectionString, ...options })
  return app
}

/** The durations of a header by their names. */
function durations (header: unknown): Record<string, number> {
  return Object.fromEntries(String(header).split(', ').map((part) => /^(\w+);dur=([\d.]+)$/.exec(part)!).map(([, name, duration]) => [name, Number(duration)]))
}

t.test('a response says how long its request waited for statements, connections and COMMIT', async (t) => {
  const app = await start(t, { serverTiming: true })
  app.get('/', async (request) => {
    await Promise.all([request.db.query('SELECT pg_sleep(0.1)'), request.db.query('SELECT pg_sleep(0.1)')])
  })
  app.get('/none', async () => 'fine')
  app.get('/off', { config: { db: { serverTiming: false } } }, async (request) => { await request.db.query('SELECT 1') })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = app.server.address() as { port: number }
  const { headers } = await send(port, { path: '/' })
  const found = durations(headers['server-timing'])
  t.same(Object.keys(found), ['db', 'acquire', 'commit'])
  t.ok(found.db! >= 199 && found.acquire! >= 0 && found.commit! > 0, JSON.stringify(found))
  t.notOk('server-timing' in (await app.inject('/none')).headers, 'the session was not used')
  t.notOk('server-timing' in (await app.inject('/off')).headers)
})

t.test('a route can turn it on, in each mode, for errors and beside the entries of others', async (t) => {
  const app = await start(t)
  const timed = (more: object = {}) => ({ config: { db: { serverTiming: true, ...more } } })
  app.get('/auto', timed({ mode: 'autocommit' }), async (request) => { await request.db.query('SELECT 1') })
  app.get('/error', timed(), async (request) => { await request.db.query('SELECT 1/0') })
  app.get('/rows', timed(), async (request) => request.db.stream('SELECT 1 AS one'))
  app.get('/retry', timed({ retry: 3 }), async (request, reply) => {
    reply.header('server-timing', 'app;dur=1')
    await request.db.query('SELECT pg_sleep(0.05)')
    if (request.db.attempt < 2) await request.db.query("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40001'; END $$")
  })
  app.get('/late', timed(), async (request) => {
    await request.db.query("INSERT INTO note VALUES ('a'), ('a')")
    return 'fine'
  })
  app.get('/plain', async (request) => { await request.db.query('SELECT 1') })
  for (const url of ['/auto', '/error', '/rows', '/late']) {
    t.match((await app.inject(url)).headers['server-timing'], /^db;dur=[\d.]+, acquire;dur=[\d.]+(, commit;dur=[\d.]+)?$/, url)
  }
  const { headers, statusCode } = await app.inject('/retry')
  t.equal(statusCode, 200)
  t.match(headers['server-timing'], /^app;dur=1, db;dur=[\d.]+, acquire;dur=[\d.]+, commit;dur=[\d.]+$/)
  t.ok(durations(String(headers['server-timing']).replace('app;dur=1, ', '')).db! >= 99, 'both attempts count')
  t.notOk('server-timing' in (await app.inject('/plain')).headers)
})
