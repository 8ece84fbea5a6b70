import { createServer, type AddressInfo } from 'node:net'
import { once } from 'node:events'
import { inspect } from 'node:util'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import pgScope, { isPgScopeError, type PgScopeOptions } from '../../../harness/plugin.ts'
import { startPgProxy } from '../../../harness/pg-proxy.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { onlyDirect, onlyQueue, through } from '../../../harness/variant.ts'
import { waitFor } from '../../../harness/wait-for.ts'

const password = 'correct-horse-s3cret'
const db = await startTestPostgres(t, {
  password, settings: { max_connections: 12, superuser_reserved_connections: 0 }
})
const { host, port, user, database } = db

/** Boots an app, and keeps all that it logs. */
function setUp (t: Test, options: PgScopeOptions) {
  const lines: string[] = []
  const app = Fastify({ logger: { level: 'trace', stream: { write: (line: string) => { lines.push(line) } } } })
  t.teardown(() => app.close())
  app.register(pgScope, options)
  app.get('/', async (request) => (await request.db.query('SELECT 1 AS one')).rows[0])
  return { app, lines }
}

async function bootError (t: Test, options: PgScopeOptions) {
  const { app, lines } = setUp(t, options)
  const error = await app.ready().then(() => { throw new Error('the app has booted') }, (error) => error)
  app.log.fatal({ err: error }, 'no boot')
  t.ok(isPgScopeError(error), error.message)
  return { error, app, lines }
}

/** Wherever an error may end up, no password is to be seen there. */
function hides (t: Test, secret: string, error: Error, lines: string[]): void {
  for (const text of [error.message, String(error.stack), JSON.stringify(error), inspect(error, { depth: 10, showHidden: true }), lines.join('\n')]) {
    t.notOk(text.includes(secret), 'the password is nowhere')
  }
}

async function unusedPort (): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

t.test('a wrong password fails the boot; the error names all but the password', async (t) => {
  for (const options of [{ host, port, user, database, password: 'wrong-s3cret' }, { connectionString: `postgres://${user}:wrong-s3cret@${host}:${port}/${database}` }, { host, port, user, database, password: () => 'wrong-s3cret' }]) {
    const { error, lines } = await bootError(t, options)
    t.match(error, { code: 'FST_PG_SCOPE_LOGIN_REFUSED', statusCode: 503, cause: { code: /^(?:28P01|08P01)$/ } })
    for (const part of [host, port, user, database, 'Check user, password and database']) t.ok(error.message.includes(String(part)), `names ${part}`)
    hides(t, 'wrong-s3cret', error, lines)
  }
})

t.test('an unknown database or user fails the boot', async (t) => {
  const missing = await bootError(t, { host, port, user, password, database: 'no_such_shop' })
  t.match(missing.error, { code: 'FST_PG_SCOPE_LOGIN_REFUSED', message: /database "no_such_shop" on .*does not exist.*Check user, password and database/, cause: { code: /^(?:3D000|08P01)$/ } })
  hides(t, password, missing.error, missing.lines)
  const stranger = await bootError(t, { host, port, user: 'nobody', password, database })
  t.match(stranger.error, { code: 'FST_PG_SCOPE_LOGIN_REFUSED', message: /as user "nobody"/ })
  hides(t, password, stranger.error, stranger.lines)
})

t.test('a user without the CONNECT privilege fails the boot like a refused login', async (t) => {
  await db.query(`CREATE ROLE visitor LOGIN PASSWORD '${password}'`)
  await db.query('CREATE DATABASE closed_shop')
  await db.query('REVOKE CONNECT ON DATABASE closed_shop FROM PUBLIC')
  const { error, lines } = await bootError(t, { host, port, user: 'visitor', password, database: 'closed_shop' })
  t.match(error, { code: 'FST_PG_SCOPE_LOGIN_REFUSED', statusCode: 503, message: /database "closed_shop" on .*Check user, password and database/, cause: { code: /^(?:42501|08P01)$/ } })
  hides(t, password, error, lines)
})

t.test('a port where no server listens fails the boot; the error names it', async (t) => {
  const port = await unusedPort()
  for (const host of ['127.0.0.1', 'localhost']) {
    const { error, lines } = await bootError(t, { connectionString: `postgres://app:${password}@${host}:${port}/shop` })
    t.match(error, { code: 'FST_PG_SCOPE_UNREACHABLE', statusCode: 503, message: /ECONNREFUSED.*Check host and port/ })
    t.ok(error.message.startsWith(`database "shop" on ${host}:${port} as user "app"`), error.message)
    hides(t, password, error, lines)
  }
})

t.test('a host that does not exist fails the boot', async (t) => {
  const { error, lines } = await bootError(t, { host: 'no-such-host.invalid', user: 'app', password, database: 'shop' })
  t.match(error, { code: 'FST_PG_SCOPE_UNREACHABLE', message: /no-such-host\.invalid:5432/ })
  hides(t, password, error, lines)
})

t.test('a host that takes connections and never answers fails the boot within acquireTimeout', async (t) => {
  const proxy = await startPgProxy(t, db)
  proxy.pause()
  const start = performance.now()
  const { error, lines } = await bootError(t, {
    connectionString: proxy.connectionString(db.connectionString), pool: { acquireTimeout: 300 }
  })
  const time = performance.now() - start
  t.ok(time >= 295 && time < 2000, `${time} ms`)
  t.match(error, { code: 'FST_PG_SCOPE_UNREACHABLE', message: new RegExp(`on 127\\.0\\.0\\.1:${proxy.port} `) })
  hides(t, password, error, lines)
})

t.test('something that is no PostgreSQL fails the boot', async (t) => {
  const server = createServer((socket) => { socket.on('error', () => {}).end('HTTP/1.1 400 Bad Request\r\n\r\n') }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const { error } = await bootError(t, { host: '127.0.0.1', port: (server.address() as AddressInfo).port, user: 'app', password, pool: { acquireTimeout: 1000 } })
  t.match(error, { code: 'FST_PG_SCOPE_UNREACHABLE' })
})

onlyQueue(onlyDirect(t, 'PgBouncer has room'), 'min is for kept connections').test('a server that is full fails the boot and says so, also when pool.min does not fit; nothing stays open', async (t) => {
  const { error, lines } = await bootError(t, { connectionString: db.connectionString, pool: { min: 15, max: 20 } })
  t.match(error, { code: 'FST_PG_SCOPE_UNREACHABLE', message: /no connection left.*Lower pool\.max, or raise max_connections/, cause: { code: '53300' } })
  t.ok(error.message.includes(`${host}:${port}`))
  hides(t, password, error, lines)
  await waitFor(async () => (await db.activity()).length === 0, { message: 'the connections that were opened are ended' })
})

t.test('TLS that the server does not have, and a password function that throws, fail the boot and leave nothing open', async (t) => {
  const cases = [
    { given: { password, ssl: true }, code: 'FST_PG_SCOPE_UNREACHABLE' },
    { given: { password: () => { throw new Error('the vault is closed') } }, code: 'FST_PG_SCOPE_LOGIN_REFUSED' }
  ]
  for (const { given, code } of cases) {
    const options = { host, port, user, database, ...given }
    const { error } = await bootError(t, options)
    t.match(error, { code, message: /does not support SSL|the vault is closed/ })
    const later = setUp(t, { ...options, startupCheck: false })
    t.equal((await later.app.inject('/')).statusCode, 503)
    await later.app.close()
  }
})

t.test('pg\'s own connection fields do as well as a URL, for the first connection and for all others', async (t) => {
  for (const secret of [password, () => password, async () => password]) {
    const { app } = setUp(t, { host, port, user, database, password: secret, pool: { min: 1 } })
    t.same((await app.inject('/')).json(), { one: 1 })
  }
})

t.test('startupCheck: false boots without a server, and each request tells what is wrong until it is there', async (t) => {
  const proxy = await startPgProxy(t, db)
  proxy.refuse()
  const { app, lines } = setUp(t, {
    connectionString: proxy.connectionString(db.connectionString), startupCheck: false
  })
  await app.ready()
  t.same(app.db.pooler, { kind: 'unknown' })
  t.equal(app.db.stats().counters.opened, 0)
  const refused = await app.inject('/')
  t.equal(refused.statusCode, 503)
  t.equal(refused.headers['retry-after'], '1')
  t.match(refused.json(), { code: 'FST_PG_SCOPE_UNREACHABLE' })
  t.notMatch(refused.body, new RegExp(`${proxy.port}|127\\.0\\.0\\.1`))
  t.ok(lines.some((line) => JSON.parse(line).err?.details.includes(`127.0.0.1:${proxy.port}`)), 'the log names the server')
  t.notOk(refused.body.includes(password) || lines.join('\n').includes(password))
  proxy.refuse(false)
  t.same((await app.inject('/')).json(), { one: 1 })
})

t.test('startupCheck: false with a wrong password: requests get 503, and no password is shown or logged', async (t) => {
  const { app, lines } = setUp(t, { host, port, user, database, password: 'wrong-s3cret', startupCheck: false })
  const response = await app.inject('/')
  t.equal(response.statusCode, 503)
  t.equal(response.headers['retry-after'], '5')
  t.match(response.json(), { code: 'FST_PG_SCOPE_LOGIN_REFUSED' })
  t.notOk(response.body.includes('wrong-s3cret') || lines.join('\n').includes('wrong-s3cret'))
})

t.test('the engine, its stats and what is logged at startup never show the password', async (t) => {
  const { app, lines } = setUp(t, { connectionString: db.connectionString })
  t.same((await app.inject('/')).json(), { one: 1 })
  t.match(app.db.pooler, through === 'direct' ? { kind: 'none' } : { kind: 'pgbouncer', mode: 'transaction' })
  for (const text of [inspect(app.db, { depth: 10 }), JSON.stringify(app.db), JSON.stringify(app.db.stats()), lines.join('\n')]) t.notOk(text.includes(password))
  t.ok(lines.some((line) => line.includes(`connected to database \\"${database}\\" on ${host}:${port} as user \\"${user}\\"`)))
})

t.test('transactionTimeout on a server before 17 fails the boot', async (t) => {
  // As close to an old server as can be had here: one that says it is 16.4.
  const connectionString = await db.createDatabase()
  await db.query('CREATE FUNCTION public.current_setting(text) RETURNS text LANGUAGE sql AS $$ SELECT \'160004\' $$', [], connectionString)
  await db.query(`ALTER DATABASE ${new URL(connectionString).pathname.slice(1)} SET search_path = public, pg_catalog`)
  const options = { connectionString }
  const { error } = await bootError(t, { ...options, transactionTimeout: 1000 })
  t.match(error, { code: 'FST_PG_SCOPE_OPTIONS', message: /^`transactionTimeout` requires PostgreSQL 17 or later, and database .* runs 16: / })
  const { app } = setUp(t, options)
  t.same((await app.inject('/')).json(), { one: 1 }, 'without that option it will do')
})

t.test('close() after a boot that failed ends the app, and leaves no connection', async (t) => {
  const { app } = await bootError(t, { host, port, user, database, password, transactionTimeout: -1 })
  await app.close()
  const later = setUp(t, { connectionString: db.connectionString, pool: { min: 2 } })
  later.app.register(async () => { throw new Error('another plugin fails') })
  await t.rejects(async () => later.app.ready(), { message: 'another plugin fails' })
  await later.app.close()
  await waitFor(async () => (await db.activity()).length === 0, { message: 'no connection is left' })
})
