import t from 'tap'
import Fastify from 'fastify'
import pgScope from '../../../harness/plugin.ts'
import { certificate, switchTlsOn } from '../../../harness/server-tls.ts'
import { openSandbox } from '../../../lib/testing/index.ts'
import type { Engine } from '../../../types/engine.ts'
import { named, sandboxDatabase } from './sandbox-app.ts'

const { postgres, openApp, outside } = await sandboxDatabase(t)
const testing = { code: 'FST_PG_SCOPE_TESTING' }

t.test('an app that is not ready yet is made ready', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  app.register(pgScope, { connectionString: postgres.connectionString })
  app.get('/', async (request) => (await request.db.query(`${named('a')} RETURNING name`)).rows)
  await openSandbox(app)
  t.same((await app.inject('/')).json(), [{ name: 'a' }])
  t.same(await outside(), [])
})

t.test('an app without an engine, or with another decorator, is named', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  app.register(async (scope) => { await scope.register(pgScope, { connectionString: postgres.connectionString }) })
  await t.rejects(openSandbox(app), { ...testing, message: /`app\.db` is not an engine/ })
  await t.rejects(openSandbox(undefined as never), { ...testing, message: /takes a Fastify app, got undefined/ })
  await t.rejects(openSandbox(app, { decorater: 'x' } as object), { code: 'FST_PG_SCOPE_OPTIONS', message: /decorater/ })
})

t.test('two engines of one app have a sandbox each', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  for (const decorator of ['db', 'reporting']) await app.register(pgScope, { connectionString: postgres.connectionString, decorator })
  const { db, reporting } = app as unknown as Record<'db' | 'reporting', Engine>
  await openSandbox(app)
  const second = await openSandbox(app, { decorator: 'reporting' })
  await db.query(named('a'))
  t.same((await reporting.query('SELECT * FROM things')).rows, [], 'they do not see each other')
  await second.close()
  t.same((await db.query('SELECT name FROM things')).rows, [{ name: 'a' }])
})

t.test('a second sandbox, open sessions and a closed app are refused, and the first sandbox goes on', async (t) => {
  const { app, inside, run } = await openApp(t)
  for (const mode of ['transaction', 'autocommit'] as const) {
    const session = app.db.session({ mode })
    await t.rejects(openSandbox(app), { ...testing, message: /while sessions are open/ })
    await session.close()
  }
  const [first, second] = await Promise.allSettled([openSandbox(app), openSandbox(app)])
  t.equal(first.status, 'fulfilled')
  t.match(second, { status: 'rejected', reason: { ...testing, message: /has a sandbox already/ } })
  await run(named('a'))
  await t.rejects(openSandbox(app), testing)
  t.same(await inside(), ['a'])
  if (first.status === 'fulfilled') await first.value.close()
  const again = await openSandbox(app)
  t.same(await inside(), [])
  await again.close()
  await app.close()
  await t.rejects(openSandbox(app), { code: 'FST_PG_SCOPE_CLOSED', message: /closed/ })
})

t.test('a sandbox can be opened right after a request', async (t) => {
  const { app, run, inside } = await openApp(t)
  for (let i = 0; i < 5; i++) {
    await run('SELECT 1')
    await using sandbox = await openSandbox(app)
    await run(named('a'))
    t.same(await inside(), ['a'])
    t.ok(sandbox)
  }
})

t.test('a server that cannot be reached is an error of openSandbox(), and the app is as before', async (t) => {
  const { app } = await openApp(t, { startupCheck: false, connectionString: 'postgres://me:secret@127.0.0.1:1/db' })
  for (let i = 0; i < 2; i++) {
    const error = await openSandbox(app).then(() => null, (error) => error)
    t.match(error, { code: 'FST_PG_SCOPE_UNREACHABLE', message: /127\.0\.0\.1:1/ })
    t.notMatch(error.message + error.stack, /secret/)
  }
})

t.test('the sandbox works over TLS', async (t) => {
  await switchTlsOn(postgres)
  const { app, run } = await openApp(t, { connectionString: `${postgres.connectionString}?sslrootcert=${certificate}` })
  await openSandbox(app)
  t.match(await run('SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()'), { body: [{ ssl: true }] })
  await t.rejects(app.db.query({ text: 'SELECT pg_sleep(60)', signal: AbortSignal.timeout(50) }), { code: 'FST_PG_SCOPE_CANCELED' })
  t.match(await run('SELECT 1 AS one'), { body: [{ one: 1 }] })
})
