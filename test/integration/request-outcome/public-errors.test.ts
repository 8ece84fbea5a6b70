import t from 'tap'
import { outcomeCases, type Case } from './outcome-cases.ts'
import pgScope from '../../../harness/plugin.ts'
import { send } from '../../../harness/http-client.ts'
import { startPgProxy } from '../../../harness/pg-proxy.ts'

const { test, postgres } = await outcomeCases(t)
const { host, user, database } = postgres
/** What no anonymous client should read. */
const internals = new RegExp(`${host.replaceAll('.', '\\.')}|"${user}"|as user|${database}|unique_note|_key|insert|select|LISTEN|pool\\.|app\\.db|config\\.|\\d{3,} ms`, 'i')

/** Each route fails with an error of the plugin's own. */
const failures: Record<string, (parts: Case) => void> = {
  FST_PG_SCOPE_CONSTRAINT_VIOLATION: ({ app }) => app.get('/', async (request) => {
    await request.db.query('INSERT INTO unique_note VALUES ($1), ($1)', ['twice'])
    return 'x'
  }),
  FST_PG_SCOPE_TRANSACTION_ABORTED: ({ app }) => app.get('/', async (request) => {
    await request.db.query('SELECT no_such_column').catch(() => {})
    return 'x'
  }),
  FST_PG_SCOPE_TRANSACTION_CONTROL: ({ app }) => app.get('/', (request) => request.db.query('rollback')),
  FST_PG_SCOPE_QUERY_INVALID: ({ app }) => app.get('/', (request) => request.db.query({ select: 1 } as never)),
  FST_PG_SCOPE_SESSION_STATE: ({ app }) => app.get('/', (request) => request.db.transaction(() => request.db.commit())),
  FST_PG_SCOPE_OPTIONS: ({ app }) => app.get('/', () => app.db.scope(async () => {}, { pool: { max: 1000 } } as never)),
  FST_PG_SCOPE_POOL_DEADLOCK: ({ app }) => app.get('/', async (request) => {
    await request.db.query('SELECT 1')
    return (await app.db.query('SELECT 1')).rows
  })
}

for (const [code, declare] of Object.entries(failures)) {
  test(`${code}: an anonymous client reads the code and no internals, also from a handler that echoes the message; the log has the details`, { plugin: { pool: { max: 1 } } }, async (t, parts) => {
    const { app, log, listen } = parts
    declare(parts)
    await app.register(async (echoing) => {
      echoing.setErrorHandler((error, request, reply) => {
        request.log.error({ err: error })
        return reply.code(500).send({ echo: (error as Error).message })
      })
      declare({ ...parts, app: echoing as never })
    }, { prefix: '/echo' })
    const port = await listen()
    for (const path of ['/', '/echo/']) {
      const { body, headers } = await send(port, { path })
      t.match(body, new RegExp(`"${code}: `), path)
      t.notMatch(body, internals, path)
      t.notMatch(JSON.stringify(headers), internals, path)
      const line = log.splice(0).find(({ err }) => err?.code === code)
      t.match(line?.err, { details: /\w/, stack: /\w/ }, `${path}: logged`)
      t.notMatch(line?.err?.details, new RegExp(code), 'the details are more than the code')
    }
  })
}

test('an outage tells an anonymous client nothing of host, port, user and database, and the log all of them', { register: false }, async (t, { app, log, listen, plugin }) => {
  const proxy = await startPgProxy(t, postgres)

  await app.register(pgScope, { ...plugin, connectionString: proxy.connectionString(postgres.connectionString) })
  app.get('/', async (request) => (await request.db.query('SELECT 1')).rows)
  app.get('/engine', async () => (await app.db.query('SELECT 1')).rows)
  app.get('/ready', () => app.db.ping())
  const port = await listen()
  proxy.refuse()
  for (const path of ['/', '/engine', '/ready']) {
    const { status, body } = await send(port, { path })
    t.equal(status, 503, path)
    t.match(JSON.parse(body), { code: 'FST_PG_SCOPE_UNREACHABLE', message: /^FST_PG_SCOPE_UNREACHABLE: / })
    t.notMatch(body, new RegExp(`${internals.source}|${proxy.port}`, 'i'), path)
    const { err } = log.splice(0).find(({ err }) => err !== undefined)!
    for (const part of [`127.0.0.1:${proxy.port}`, user, database]) t.ok(err!.details?.includes(part), `${path}: the log names ${part}`)
  }
  proxy.refuse(false)
})

test('exposeErrors: answers show the details, for development', { plugin: { exposeErrors: true } }, async (t, { app, listen }) => {
  app.get('/', (request) => request.db.query('rollback'))
  app.get('/commit', async (request) => {
    await request.db.query('INSERT INTO unique_note VALUES ($1), ($1)', ['twice'])
    return 'x'
  })
  const port = await listen()
  t.match(JSON.parse((await send(port)).body), { code: 'FST_PG_SCOPE_TRANSACTION_CONTROL', message: /ROLLBACK/ })
  t.match(JSON.parse((await send(port, { path: '/commit' })).body), { message: /COMMIT failed because of a deferred constraint/ })
})

test('options of a route that was declared before the plugin are not shown to the client that makes the first request', { register: false }, async (t, { app, log, listen, plugin }) => {
  app.get('/', { config: { db: { isolation: 'hidden value' } } as object }, async (request) => (await request.db.query('SELECT 1')).rows)
  await app.register(pgScope, plugin)
  const { body } = await send(await listen())
  t.match(JSON.parse(body), { statusCode: 500, code: 'FST_PG_SCOPE_OPTIONS' })
  t.notMatch(body, /hidden value|config/)
  t.ok(log.some(({ err }) => err?.details?.includes('hidden value')))
})
