import Fastify from 'fastify'
import t, { type Test } from 'tap'
import pgScope, { type PgScopeOptions } from '../../../lib/index.ts'
import { startPgProxy } from '../../../harness/pg-proxy.ts'
import { eachPgBouncer, startPgBouncer } from '../../../harness/pgbouncer.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { waitFor } from '../../../harness/wait-for.ts'

const postgres = await startTestPostgres(t)
await postgres.query('CREATE TABLE note (text text)')

async function setUp (t: Test, options: PgScopeOptions = {}) {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(pgScope, { connectionString: postgres.connectionString, ...options })
  return app
}

/** The backends that listen are idle after LISTEN or UNLISTEN. */
async function listening (): Promise<number[]> {
  const { rows } = await postgres.query('SELECT pid FROM pg_stat_activity WHERE query ~ \'^(UN)?LISTEN\'')
  return rows.map(({ pid }) => pid)
}

t.test('a notification is delivered once its transaction is committed, and not after a rollback', async (t) => {
  const app = await setUp(t)
  const received: unknown[] = []
  await app.db.listen('news', (payload, { channel }) => received.push([payload, channel]))
  await app.db.scope(async (session) => {
    await session.notify('news', 'first')
    await session.query('SELECT pg_sleep(0.05)')
    t.same(received, [])
  })
  await waitFor(() => received.length === 1)
  await t.rejects(app.db.scope(async (session) => {
    await session.notify('news', 'rolled back')
    throw new Error('no')
  }), { message: 'no' })
  await app.db.scope((session) => session.transaction((nested) => nested.notify('news', 'nested')))
  await app.db.scope((session) => session.notify('news'), { mode: 'autocommit' })
  await app.db.notify('news', 'by itself')
  await waitFor(() => received.length === 4)
  t.same(received, ['first', 'nested', '', 'by itself'].map((payload) => [payload, 'news']))
})

t.test('a notification that cannot be sent fails its session', async (t) => {
  const app = await setUp(t)
  await t.rejects(app.db.scope(async (session) => {
    await session.query('INSERT INTO note VALUES (\'lost\')')
    session.notify('x'.repeat(64), 'the name is too long')
  }), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED', cause: { code: '22023' } })
  t.equal((await postgres.query('SELECT FROM note')).rowCount, 0)
})

t.test('all channels share one connection outside of the pool, which exists while there are subscriptions', async (t) => {
  const app = await setUp(t, { pool: { max: 1 } })
  t.same(await listening(), [])
  const received: string[] = []
  const first = await app.db.listen('one', (payload) => received.push(`one: ${payload}`))
  const second = await app.db.listen('Two "quoted"', (payload) => received.push(`two: ${payload}`))
  const third = await app.db.listen('one', (payload) => received.push(`again: ${payload}`))
  t.equal((await listening()).length, 1)
  await app.db.scope(async (session) => {
    await session.notify('one', 'a')
    await session.notify('Two "quoted"', 'b')
  })
  await waitFor(() => received.length === 3)
  t.same(received, ['one: a', 'again: a', 'two: b'])
  await first.close()
  await app.db.notify('one', 'c')
  await waitFor(() => received.length === 4)
  t.equal(received[3], 'again: c')
  await third.close()
  await third.close()
  await app.db.notify('one', 'd')
  await app.db.notify('Two "quoted"', 'e')
  await waitFor(() => received.length === 5)
  t.equal(received[4], 'two: e')
  await second.close()
  await waitFor(async () => (await listening()).length === 0)
  await app.db.listen('one', (payload) => received.push(payload))
  await app.db.notify('one', 'once more')
  await waitFor(() => received.at(-1) === 'once more')
})

t.test('after a lost connection subscriptions continue, and onReconnect says that notifications may be missing', async (t) => {
  const app = await setUp(t)
  const received: string[] = []
  let gaps = 0
  const failing = (): void => { gaps++; throw new Error('ours') }
  await app.db.listen('a', (payload) => received.push(payload), { onReconnect: () => { gaps++ } })
  await app.db.listen('b', (payload) => received.push(payload), { onReconnect: failing })
  for (let round = 1; round <= 3; round++) {
    const [pid] = await listening()
    await postgres.query('SELECT pg_terminate_backend($1)', [pid])
    await waitFor(() => gaps === 2 * round)
    await app.db.notify('a', `a${round}`)
    await app.db.notify('b', `b${round}`)
    await waitFor(() => received.length === 2 * round)
  }
  t.same(received, ['a1', 'b1', 'a2', 'b2', 'a3', 'b3'])
})

t.test('subscriptions continue after a restart of the server', async (t) => {
  const app = await setUp(t)
  let gaps = 0
  const received: string[] = []
  await app.db.listen('a', (payload) => received.push(payload), { onReconnect: () => { gaps++ } })
  await postgres.restart('immediate')
  await waitFor(() => gaps > 0, { timeout: 30000 })
  await app.db.notify('a', 'back')
  await waitFor(() => received.length === 1)
})

t.test('a function that throws or rejects keeps no other from being called', async (t) => {
  const app = await setUp(t)
  const received: string[] = []
  await app.db.listen('a', () => { throw new Error('thrown') })
  await app.db.listen('a', async () => { throw new Error('rejected') })
  await app.db.listen('a', (payload) => received.push(payload))
  await app.db.notify('a', 'x')
  await app.db.notify('a', 'y')
  await waitFor(() => received.length === 2)
})

t.test('`await using` and a signal end a subscription', async (t) => {
  const app = await setUp(t)
  const received: string[] = []
  {
    await using subscription = await app.db.listen('a', (payload) => received.push(payload))
    t.equal(subscription.channel, 'a')
  }
  await waitFor(async () => (await listening()).length === 0)
  const controller = new AbortController()
  await app.db.listen('a', (payload) => received.push(payload), { signal: controller.signal })
  controller.abort()
  await waitFor(async () => (await listening()).length === 0)
  await t.rejects(app.db.listen('a', () => {}, { signal: controller.signal }), { code: 'FST_PG_SCOPE_CANCELED' })
  await app.db.notify('a', 'unheard')
  t.same(received, [])
})

t.test('close() ends the connection, and later calls are rejected', async (t) => {
  const app = await setUp(t)
  await app.db.listen('a', () => {})
  await app.close()
  await waitFor(async () => (await listening()).length === 0)
  await t.rejects(app.db.listen('a', () => {}), { code: 'FST_PG_SCOPE_CLOSED' })
  await t.rejects(app.db.notify('a'), { code: 'FST_PG_SCOPE_CLOSED' })
})

t.test('close() ends the attempts to reach a server that is away', async (t) => {
  const proxy = await startPgProxy(t, postgres)
  const app = await setUp(t, { connectionString: proxy.connectionString(postgres.connectionString) })
  await app.db.listen('a', () => {})
  await proxy.close()
  await app.close()
})

t.test('a channel or an option that is invalid is rejected', async (t) => {
  const app = await setUp(t)
  const expected = { code: 'FST_PG_SCOPE_OPTIONS', details: /`channel` must be a string of 1 to 63 bytes/ }
  for (const channel of ['', 'x'.repeat(64), 'zero\0', 7, undefined]) {
    await t.rejects(app.db.listen(channel as string, () => {}), expected)
  }
  await t.rejects(app.db.listen('a', undefined as never), { code: 'FST_PG_SCOPE_QUERY_INVALID' })
  await t.rejects(app.db.listen('a', () => {}, { onreconnect: () => {} } as never), { code: 'FST_PG_SCOPE_OPTIONS' })
  t.same(await listening(), [])
})

t.test('behind a pooler in transaction mode listen() and lock() need directUrl', (t) => eachPgBouncer(t, async (t, program) => {
  const bouncer = await startPgBouncer(t, postgres, { program })
  const { connectionString } = bouncer
  const pooled = await setUp(t, { connectionString })
  const missing = { code: 'FST_PG_SCOPE_POOLER_UNSUPPORTED', details: /set `directUrl` to the address of PostgreSQL/ }
  await t.rejects(pooled.db.listen('a', () => {}), missing)
  await t.rejects(pooled.db.lock('a', () => {}), missing)
  const wrong = await setUp(t, { connectionString, directUrl: connectionString })
  await t.rejects(wrong.db.listen('a', () => {}), { code: missing.code, details: /`directUrl` must lead to PostgreSQL itself/ })
  const app = await setUp(t, { connectionString, directUrl: postgres.connectionString })
  const received: string[] = []
  await app.db.listen('a', (payload) => received.push(payload))
  await app.db.scope((session) => session.notify('a', 'through PgBouncer'))
  await waitFor(() => received.length === 1)
  t.equal(await app.db.lock('a', () => 'locked'), 'locked')
}))

t.test('a directUrl that is not a URL stops the boot, and the error does not show it', async (t) => {
  const app = Fastify()
  const directUrl = 'postgres://app:se/cret@localhost/db'
  const error = await app.register(pgScope, { connectionString: postgres.connectionString, directUrl })
    .then(() => null, (error) => error)
  t.equal(error.code, 'FST_PG_SCOPE_OPTIONS')
  t.match(error.message, /`directUrl` must be a URL/)
  t.notMatch(error.message, /cret/)
})
