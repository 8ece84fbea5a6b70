import t from 'tap'
import Fastify from 'fastify'
import { setTimeout as sleep } from 'node:timers/promises'
import pgScope from '../../../harness/plugin.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { waitFor } from '../../../harness/wait-for.ts'
import type { Session } from '../../../types/session.ts'

const postgres = await startTestPostgres(t)
await postgres.query('CREATE TABLE accounts AS SELECT 1 AS id, 100 AS balance')
const app = Fastify()
await app.register(pgScope, { connectionString: postgres.connectionString })
app.get('/conflict', { config: { db: { isolation: 'repeatable read' } } }, async (request) => {
  await conflict(request.db)
  return {}
})
t.teardown(() => app.close())

const { db } = app
const show = async (session: Session, name: string): Promise<string> => (await session.query(`SHOW ${name}`)).rows[0][name]
const sleeping = async () => (await postgres.activity()).some(({ query, state }) => query.includes('pg_sleep') && state === 'active')

async function conflict (session: Session): Promise<void> {
  await session.query('SELECT * FROM accounts')
  await postgres.query('UPDATE accounts SET balance = balance + 1')
  await session.query('UPDATE accounts SET balance = balance + 1')
}

for (const isolation of ['read committed', 'repeatable read', 'serializable'] as const) {
  t.test(`isolation: '${isolation}' is what the transaction has`, async t => {
    t.equal(await db.scope((session) => show(session, 'transaction_isolation'), { isolation }), isolation)
  })
}

t.test('a serialization failure is pg\'s own error, with status 503 and Retry-After', async t => {
  const before = (await postgres.query('SELECT balance FROM accounts')).rows[0].balance
  await t.rejects(db.scope(conflict, { isolation: 'repeatable read' }), { code: '40001', statusCode: 503, headers: { 'retry-after': '1' } })
  t.equal((await postgres.query('SELECT balance FROM accounts')).rows[0].balance, before + 1)
  const answer = await app.inject('/conflict')
  t.match(answer, { statusCode: 503, headers: { 'retry-after': '1' } })
})

t.test('a serialization failure that COMMIT raises is a 503 too', async t => {
  await postgres.query('CREATE TABLE dots AS SELECT 1 AS id, \'black\' AS color UNION SELECT 2, \'white\'')
  const one = db.session({ isolation: 'serializable' })
  const two = db.session({ isolation: 'serializable' })
  await one.query('UPDATE dots SET color = \'black\' WHERE color = \'white\'')
  await two.query('UPDATE dots SET color = \'white\' WHERE color = \'black\'')
  await one.commit()
  await t.rejects(two.commit(), { code: 'FST_PG_SCOPE_SERIALIZATION_FAILURE', statusCode: 503, headers: { 'retry-after': '1' }, cause: { code: '40001' } })
  await one.close()
  await two.close()
})

t.test('readOnly refuses writes, and reads are answered', async t => {
  await t.rejects(db.scope((session) => session.query('DELETE FROM accounts'), { readOnly: true }), { code: '25006' })
  t.equal((await db.scope((session) => session.query('SELECT * FROM accounts'), { readOnly: true })).rowCount, 1)
})

t.test('deferrable reaches the server', async t => {
  await db.scope(async (session) => {
    t.equal(await show(session, 'transaction_deferrable'), 'on')
    t.equal(await show(session, 'transaction_read_only'), 'on')
  }, { isolation: 'serializable', readOnly: true, deferrable: true })
})

t.test('statementTimeout ends a statement, and the connection lives on', async t => {
  await t.rejects(db.scope((session) => session.query('SELECT pg_sleep(10)'), { statementTimeout: 50 }), { code: '57014' })
  t.equal(await db.scope((session) => show(session, 'statement_timeout')), '0', 'gone for the next one')
})

t.test('lockTimeout ends a wait for a lock', async t => {
  const holder = db.session()
  await holder.query('SELECT * FROM accounts FOR UPDATE')
  await t.rejects(db.scope((session) => session.query('UPDATE accounts SET balance = 0'), { lockTimeout: 50 }), { code: '55P03' })
  await holder.close()
})

t.test('idleInTransactionTimeout ends a transaction that its function forgot, and nothing of it is kept', async t => {
  await t.rejects(db.scope(async (session) => {
    await session.query('UPDATE accounts SET balance = -1')
    await waitFor(() => session.state === 'failed')
    await t.rejects(session.query('SELECT 1'), { code: 'FST_PG_SCOPE_CONNECTION_LOST', cause: { code: '25P03' } })
  }, { idleInTransactionTimeout: 50 }), { code: 'FST_PG_SCOPE_CONNECTION_LOST', statusCode: 503, cause: { code: '25P03' } })
  t.equal((await db.query('SELECT count(*)::int AS n FROM accounts WHERE balance = -1')).rows[0].n, 0)
})

t.test('transactionTimeout ends a transaction as a whole', async t => {
  await t.rejects(db.scope(async (session) => {
    for (let i = 0; i < 100; i++) await session.query('SELECT pg_sleep(0.02)')
  }, { transactionTimeout: 100 }), { code: 'FST_PG_SCOPE_CONNECTION_LOST', cause: { code: '25P04' } })
  t.equal(db.stats().inUse, 0)
})

t.test('transactionTimeout in the first statement does not run it a second time', async t => {
  await db.query('SELECT 1')
  const { resent } = db.stats().counters
  await t.rejects(db.scope((session) => session.query('SELECT pg_sleep(10)'), { transactionTimeout: 50 }), { code: 'FST_PG_SCOPE_CONNECTION_LOST', cause: { code: '25P04' } })
  t.equal(db.stats().counters.resent, resent)
})

t.test('a connection that dies with the session idle in its transaction does not end the process', async t => {
  await t.rejects(db.scope(async (session) => {
    const { rows: [{ pid }] } = await session.query('SELECT pg_backend_pid() AS pid')
    await postgres.query('SELECT pg_terminate_backend($1)', [pid])
    await waitFor(() => session.state === 'failed')
  }), { code: 'FST_PG_SCOPE_CONNECTION_LOST' })
})

t.test('session.signal aborts when the session is over', async t => {
  let signal!: AbortSignal
  await db.scope(async (session) => {
    signal = session.signal
    await session.query('SELECT 1')
    t.equal(signal.aborted, false)
    await session.commit()
    t.equal(signal.aborted, false)
  })
  t.equal(signal.aborted, true)
  const session = db.session()
  await session.close()
  t.equal(session.signal.aborted, true, 'also where it is asked for later')
})

t.test('options.signal cancels the running statement on the server within a second, and rolls back', async t => {
  const controller = new AbortController()
  const running = db.scope(async (session) => {
    await session.query('UPDATE accounts SET balance = -2')
    await session.query('SELECT pg_sleep(60)')
  }, { signal: controller.signal })
  running.catch(() => {})
  await waitFor(sleeping)
  controller.abort(new Error('enough'))
  await t.rejects(running, { code: 'FST_PG_SCOPE_CANCELED', cause: { message: 'enough' } })
  await waitFor(async () => !await sleeping(), { timeout: 1000 })
  t.equal(db.stats().inUse, 0)
  t.equal((await db.query('SELECT count(*)::int AS n FROM accounts WHERE balance = -2')).rows[0].n, 0)
})

t.test('options.signal rejects a scope that used the database before, whatever its function makes of it', async t => {
  const controller = new AbortController()
  await t.rejects(db.scope(async (session) => {
    await session.query('UPDATE accounts SET balance = -3')
    controller.abort()
    await sleep(20)
    return 'fine'
  }, { signal: controller.signal }), { code: 'FST_PG_SCOPE_CANCELED' })
  t.equal((await db.query('SELECT count(*)::int AS n FROM accounts WHERE balance = -3')).rows[0].n, 0)
})

t.test('a signal that is aborted already lets nothing run', async t => {
  const { acquired } = db.stats().counters
  await t.rejects(db.scope((session) => session.query('SELECT 1'), { signal: AbortSignal.abort() }), { code: 'FST_PG_SCOPE_CANCELED' })
  t.equal(db.stats().counters.acquired, acquired)
})

t.test('a signal ends the wait for a connection', async t => {
  const app = Fastify()
  await app.register(pgScope, { connectionString: postgres.connectionString, pool: { max: 1 } })
  t.teardown(() => app.close())
  const over = new AbortController()
  const holder = app.db.scope((session) => session.query('SELECT pg_sleep(60)'), { signal: over.signal })
  await waitFor(sleeping)
  await t.rejects(app.db.scope((session) => session.query('SELECT 1'), { signal: AbortSignal.timeout(50) }), { code: 'FST_PG_SCOPE_CANCELED' })
  t.match(app.db.stats(), { inUse: 1, waiting: 0 })
  over.abort()
  await t.rejects(holder)
})

t.test('a signal does not undo what commit() has saved', async t => {
  const controller = new AbortController()
  await t.rejects(db.scope(async (session) => {
    await session.query('UPDATE accounts SET balance = 77')
    await session.commit()
    controller.abort()
    await session.query('UPDATE accounts SET balance = 78')
  }, { signal: controller.signal }), { code: 'FST_PG_SCOPE_CANCELED' })
  t.equal((await db.query('SELECT balance FROM accounts')).rows[0].balance, 77)
})

t.test('a signal cancels also what a commit() by hand waits for', async t => {
  const controller = new AbortController()
  const session = db.session({ signal: controller.signal })
  const slow = session.query('SELECT pg_sleep(60)').catch((error) => error)
  const committed = session.commit().catch((error) => error)
  await waitFor(sleeping)
  const begun = performance.now()
  controller.abort()
  t.match(await slow, { code: 'FST_PG_SCOPE_CANCELED' })
  t.match(await committed, { code: 'FST_PG_SCOPE_CANCELED' })
  await session.close()
  t.ok(performance.now() - begun < 30000)
  t.equal(db.stats().inUse, 0)
})

t.test('a long-lived signal does not collect listeners', async t => {
  const { signal } = new AbortController()
  let listeners = 0
  const { addEventListener, removeEventListener } = signal
  signal.addEventListener = (...args: Parameters<typeof addEventListener>) => {
    listeners++
    addEventListener.apply(signal, args)
  }
  signal.removeEventListener = (...args: Parameters<typeof removeEventListener>) => {
    listeners--
    removeEventListener.apply(signal, args)
  }
  for (let i = 0; i < 20; i++) await db.scope((session) => session.query('SELECT 1'), { signal })
  t.ok(listeners <= 1, 'one listener serves all')
})

t.test('a timeout that the plugin sets holds for every session, and a scope can set its own', async t => {
  const app = Fastify()
  await app.register(pgScope, {
    connectionString: postgres.connectionString, statementTimeout: 4000, lockTimeout: 3000
  })
  t.teardown(() => app.close())
  t.equal(await app.db.scope((session) => show(session, 'statement_timeout')), '4s')
  t.equal(await app.db.scope((session) => show(session, 'statement_timeout'), { statementTimeout: 2000 }), '2s')
  t.equal(await app.db.scope((session) => show(session, 'statement_timeout'), { statementTimeout: 0 }), '0')
  t.equal(await app.db.scope((session) => show(session, 'statement_timeout')), '4s')
  t.equal(await app.db.scope((session) => show(session, 'lock_timeout')), '3s')
})
