import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import t from 'tap'
import pg from 'pg'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { switchTlsOn } from '../../../harness/server-tls.ts'
import { waitFor } from '../../../harness/wait-for.ts'
import { cloneDatabase } from '../../../lib/testing/index.ts'
import { databaseOf, withDatabase } from '../../../lib/testing/database-url.ts'

const postgres = await startTestPostgres(t)
const names = async (): Promise<string[]> => (await postgres.query('SELECT datname FROM pg_database')).rows.map(({ datname }) => datname)
const query = async (connectionString: string, text: string) => {
  const client = new pg.Client({ connectionString })
  await client.connect()
  return await client.query(text).finally(() => client.end())
}

const shop = await postgres.createDatabase()
await query(shop, 'CREATE TABLE things (name text); INSERT INTO things VALUES (\'a\')')

t.test('a clone has the tables and rows of its template, and is gone after drop()', async (t) => {
  const before = await names()
  const clone = await cloneDatabase(shop)
  t.same((await query(clone.connectionString, 'SELECT name FROM things')).rows, [{ name: 'a' }])
  await query(clone.connectionString, 'DELETE FROM things')
  t.same((await query(shop, 'SELECT name FROM things')).rows, [{ name: 'a' }])
  const idle = new pg.Client({ connectionString: clone.connectionString })
  const ended = new Promise((resolve) => idle.on('error', resolve))
  await idle.connect()
  await clone.drop()
  await clone.drop()
  await ended
  t.same(await names(), before, 'although a client was connected')
})

t.test('await using drops the clone', async (t) => {
  const before = await names()
  {
    await using clone = await cloneDatabase(postgres.connectionString, { template: databaseOf(shop) })
    t.equal((await names()).length, before.length + 1)
    t.match(clone.connectionString, /^postgres/)
  }
  t.same(await names(), before)
})

t.test('several clones of one template are made at the same time', async (t) => {
  const clones = await Promise.all([1, 2, 3].map(() => cloneDatabase(shop)))
  t.equal(new Set(clones.map(({ connectionString }) => connectionString)).size, 3)
  await Promise.all(clones.map(({ drop }) => drop()))
})

t.test('a template with any name, postgres and template1 can be cloned', async (t) => {
  for (const template of ['Odd "name" / ü?', 'postgres', 'template1', 'x'.repeat(63)]) {
    if (!(await names()).includes(template)) await postgres.query(`CREATE DATABASE ${pg.escapeIdentifier(template)}`)
    const clone = await cloneDatabase(postgres.connectionString, { template })
    t.equal((await query(clone.connectionString, 'SELECT 1 AS one')).rows[0].one, 1)
    t.ok(Buffer.byteLength(databaseOf(clone.connectionString)) < 64)
    await clone.drop()
  }
})

t.test('a template that others are connected to is waited for', async (t) => {
  const client = new pg.Client({ connectionString: shop })
  await client.connect()
  const cloned = cloneDatabase(shop)
  await waitFor(async () => (await postgres.query('SELECT FROM pg_stat_activity WHERE query LIKE \'CREATE DATABASE%\' AND state = \'active\'')).rowCount === 1)
  await client.end()
  const clone = await cloned
  t.same((await query(clone.connectionString, 'SELECT name FROM things')).rows, [{ name: 'a' }])
  await clone.drop()
})

t.test('a template that stays busy, or that does not exist, is an error that says so, without the password', async (t) => {
  const client = new pg.Client({ connectionString: shop })
  await client.connect()
  await t.rejects(cloneDatabase(shop, { timeout: 1 }), { code: 'FST_PG_SCOPE_TESTING', message: /being accessed by other users/ })
  await client.end()
  await t.rejects(cloneDatabase(shop, { template: 'nothing' }), { code: 'FST_PG_SCOPE_TESTING', message: /template database "nothing" does not exist/, cause: { code: '3D000' } })
  const secret = new URL(shop)
  secret.password = 'top secret'
  secret.port = '1'
  for (const url of [secret.href, secret.href.replace(':1/', ':port/'), 'postgres://me:top%zzsecret@host:x/y', 'mysql://me:secret@host/db', '', undefined, 5]) {
    const error = await cloneDatabase(url as string).then(() => null, (error) => error)
    t.match(error.code, /^FST_PG_SCOPE_(?:TESTING|OPTIONS)$/)
    t.notMatch(JSON.stringify([error.message, error.stack, error, error.cause, String(error.cause?.stack)]), /secret/)
  }
  await t.rejects(cloneDatabase(shop, { templat: 'x' } as object), { code: 'FST_PG_SCOPE_OPTIONS', message: /`cloneDatabase: options.templat`|templat/ })
})

t.test('a server that accepts connections and answers nothing is an error', async (t) => {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => { sockets.add(socket) }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  const url = `postgres://a:b@127.0.0.1:${(server.address() as AddressInfo).port}/shop`
  await t.rejects(cloneDatabase(url), { code: 'FST_PG_SCOPE_TESTING', details: /cannot be reached/ })
})

t.test('a server with TLS is reached as its URL says, and the parameters stay in the URL of the clone', async (t) => {
  const secure = await startTestPostgres(t)
  await switchTlsOn(secure)
  const url = `${secure.connectionString}?sslmode=no-verify&application_name=my%20app`
  const clone = await cloneDatabase(url)
  t.match(clone.connectionString, /\?sslmode=no-verify&application_name=my%20app$/)
  t.match((await query(clone.connectionString, 'SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()')).rows, [{ ssl: true }])
  await clone.drop()
})

t.test('every form of a URL gets another database and nothing else', async (t) => {
  for (const [url, expected, database] of [
    ['postgres://u:p%40@h:1/a?x=1', 'postgres://u:p%40@h:1/b?x=1', 'a'],
    ['postgresql://h', 'postgresql://h/b', undefined],
    ['postgres://u@h/?host=/tmp', 'postgres://u@h/b?host=/tmp', 'u'],
    ['postgres:///a%20b?host=/tmp', 'postgres:///b?host=/tmp', 'a b'],
    ['socket:/tmp?db=a&encoding=utf8', 'socket:/tmp?db=b&encoding=utf8', 'a'],
    ['/tmp a', '/tmp b', 'a']
  ] as const) {
    t.equal(withDatabase(url, 'b'), expected)
    if (database !== undefined) t.equal(databaseOf(url), database)
  }
})
