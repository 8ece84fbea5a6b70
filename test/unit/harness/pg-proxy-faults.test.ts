import pg from 'pg'
import { setTimeout as sleep } from 'node:timers/promises'
import tap, { test } from 'tap'
import { startPgProxy } from '../../../harness/pg-proxy.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { waitFor } from '../../../harness/wait-for.ts'
import type { Test } from 'tap'

const db = await startTestPostgres(tap)
await db.query('CREATE TABLE things (id int)')

async function setUp (t: Test, options: pg.ClientConfig = {}) {
  await db.query('TRUNCATE things')
  const proxy = await startPgProxy(t, db)
  const url = proxy.connectionString(db.connectionString)
  const client = await connectClient(t, url, options)
  return { proxy, client, url }
}

async function connectClient (t: Test, connectionString: string, options: pg.ClientConfig = {}) {
  const client = new pg.Client({ connectionString, ...options })
  client.on('error', () => {})
  t.teardown(() => { client.end().catch(() => {}) })
  await client.connect()
  return client
}

async function things (): Promise<number[]> {
  const { rows } = await db.query('SELECT id FROM things ORDER BY id')
  return rows.map(row => row.id)
}

async function noBackends (): Promise<void> {
  await waitFor(async () => (await db.activity()).length === 0, { message: 'the backends end' })
}

test('delay makes a round trip twice as long, and pipelined ones no longer', async t => {
  const { proxy, client } = await setUp(t, { pipeline: true } as pg.ClientConfig)
  proxy.delay(20)
  const start = performance.now()
  await client.query('SELECT 1')
  const one = performance.now() - start
  await Promise.all([1, 2, 3, 4, 5].map(value => client.query('SELECT $1::int', [value])))
  const five = performance.now() - start - one
  t.ok(one >= 40, `one query: ${one} ms`)
  t.ok(five >= 40 && five < 200, `five at once: ${five} ms`)
})

test('short delays are kept exactly enough', async t => {
  const { proxy, client } = await setUp(t)
  proxy.delay(1)
  const times: number[] = []
  for (let i = 0; i < 50; i++) {
    const start = performance.now()
    await client.query('SELECT 1')
    times.push(performance.now() - start)
  }
  // A busy machine makes some of them slower.
  const best = Math.min(...times)
  t.ok(best >= 2 && best < 4, `${best} ms`)
})

test('while paused nothing passes, and everything does afterwards', async t => {
  const { proxy, client } = await setUp(t)
  proxy.pause()
  let state = 'waiting'
  const query = client.query('SELECT 1').then(() => { state = 'answered' })
  await sleep(50)
  t.equal(state, 'waiting')
  proxy.resume()
  await query
})

test('a server behind a paused network does not learn that the client has gone', async t => {
  const { proxy, client } = await setUp(t)
  await client.query('BEGIN')
  proxy.pause()
  client.end().catch(() => {})
  await sleep(50)
  t.match(await db.activity(), [{ state: 'idle in transaction' }])
  proxy.resume()
  await noBackends()
})

test('what was dropped is lost, and its connection stays silent', async t => {
  const { proxy, client, url } = await setUp(t)
  const bystander = await connectClient(t, url)
  proxy.pause({ drop: true })
  let state = 'waiting'
  const query = client.query('INSERT INTO things VALUES (1)').catch(() => { state = 'failed' })
  await sleep(20)
  proxy.resume()
  await sleep(50)
  t.equal(state, 'waiting')
  t.same(await things(), [])
  t.same((await bystander.query('SELECT 1 AS one')).rows, [{ one: 1 }])
  proxy.cut()
  await query
  t.equal(state, 'failed')
  await noBackends()
})

test('a connection attempt into a dropping network gets no answer', async t => {
  const { proxy, url } = await setUp(t)
  proxy.pause({ drop: true })
  await t.rejects(connectClient(t, url, { connectionTimeoutMillis: 50 }), { message: /timeout/ })
})

test('cut closes all connections on both sides', async t => {
  const { proxy, client } = await setUp(t)
  const query = client.query('SELECT pg_sleep(60)')
  proxy.cut()
  await t.rejects(query, { message: 'Connection terminated unexpectedly' })
  await db.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)' AND pid <> pg_backend_pid()")
  await waitFor(() => proxy.open === 0)
  await noBackends()
})

test('cut with reset is ECONNRESET', async t => {
  const { proxy, client } = await setUp(t)
  const query = client.query('BEGIN; SELECT 1')
  proxy.cut({ reset: true })
  await t.rejects(query, { code: 'ECONNRESET' })
  await noBackends()
})

test('a statement that is cut off before it arrives does not run', async t => {
  const { proxy, client } = await setUp(t)
  await client.query('BEGIN')
  await client.query('INSERT INTO things VALUES ($1)', [1])
  const trap = proxy.cutOn('commit')
  await t.rejects(client.query('COMMIT'), { message: 'Connection terminated unexpectedly' })
  await trap.sprung
  await noBackends()
  t.same(await things(), [])
})

test('a statement whose answer is cut off has run', async t => {
  const { proxy, client } = await setUp(t)
  proxy.cutOn(/^commit$/i, { after: true, reset: true })
  await client.query('BEGIN')
  await client.query('INSERT INTO things VALUES ($1)', [1])
  const commit = client.query('COMMIT')
  await t.rejects(commit, { code: 'ECONNRESET' })
  t.same(await things(), [1])
  t.equal(proxy.syncs, 3)
})

test('within a pipeline only the answer to the internal statement is dropped', async t => {
  for (const delay of [0, 5]) {
    const { proxy, client } = await setUp(t, { pipeline: true } as pg.ClientConfig)
    proxy.delay(delay)
    proxy.cutOn(statement => statement.includes('$1') && statement.includes('two'), { after: true })
    const results = await Promise.allSettled([
      client.query('INSERT INTO things VALUES ($1) /* one */', [1]),
      client.query('INSERT INTO things VALUES ($1) /* two */', [2]),
      client.query('SELECT 3')
    ])
    t.same(results.map(result => result.status), ['fulfilled', 'rejected', 'rejected'])
    t.same(await things(), [1, 2])
  }
})

test('within a pipeline only the statement that was asked for is kept back', async t => {
  const { proxy, client } = await setUp(t, { pipeline: true } as pg.ClientConfig)
  proxy.cutOn('two')
  await Promise.allSettled([
    client.query('INSERT INTO things VALUES ($1) /* one */', [1]),
    client.query('INSERT INTO things VALUES ($1) /* two */', [2])
  ])
  await noBackends()
  t.same(await things(), [1])
})

test('a named statement is recognised when it is executed again', async t => {
  const { proxy, client } = await setUp(t)
  const insert = (id: number) => client.query({ name: 'insert', text: 'INSERT INTO things VALUES ($1)', values: [id] })
  let seen = 0
  proxy.cutOn(statement => statement.startsWith('INSERT') && ++seen === 3, { after: true })
  await insert(1)
  await insert(2)
  await t.rejects(insert(3))
  t.same(await things(), [1, 2, 3])
})

test('a statement that fails is cut off all the same', async t => {
  const { proxy, client, url } = await setUp(t)
  proxy.cutOn('1/0', { after: true, times: 2 })
  await t.rejects(client.query('SELECT 1/0'), { message: 'Connection terminated unexpectedly' })
  await t.rejects((await connectClient(t, url)).query('SELECT 1/0 WHERE $1', [true]), { message: 'Connection terminated unexpectedly' })
  await t.rejects((await connectClient(t, url)).query('SELECT 1/0'), { code: '22012' })
})

test('a trap that is taken away catches nothing', async t => {
  const { proxy, client } = await setUp(t)
  proxy.cutOn('SELECT').times = 0
  await client.query('SELECT 1')
})

test('refuses new connections, and keeps those that it has', async t => {
  const { proxy, client, url } = await setUp(t)
  proxy.refuse()
  await t.rejects(connectClient(t, url))
  await client.query('SELECT 1')
  proxy.refuse(false)
  await (await connectClient(t, url)).query('SELECT 1')
  t.equal(proxy.connections, 2)
})

test('a server that is not there closes the connection', async t => {
  const gone = await startPgProxy(null, db)
  await gone.close()
  await gone.close()
  const proxy = await startPgProxy(t, { host: gone.host, port: gone.port })
  await t.rejects(connectClient(t, proxy.connectionString(db.connectionString)))
  await waitFor(() => proxy.open === 0)
})

test('the connection string keeps everything but the address', async t => {
  const proxy = await startPgProxy(t, db)
  t.equal(
    proxy.connectionString('postgres://me:p%40ss@/shop?host=/tmp&application_name=x'.replace('@/', '@db.example:6432/')),
    `postgres://me:p%40ss@127.0.0.1:${proxy.port}/shop?application_name=x`
  )
})
