import { setTimeout as sleep } from 'node:timers/promises'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import pgScope, { type PgScopeOptions } from '../../../lib/index.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { waitFor } from '../../../harness/wait-for.ts'

const postgres = await startTestPostgres(t)

async function setUp (t: Test, options: PgScopeOptions = {}) {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(pgScope, { connectionString: postgres.connectionString, ...options })
  return app
}

async function locks (): Promise<{ pid: number, granted: boolean }[]> {
  return (await postgres.query('SELECT pid, granted FROM pg_locks WHERE locktype = \'advisory\' ORDER BY granted')).rows
}

const free = (): Promise<unknown> => waitFor(async () => (await locks()).length === 0)

t.test('one process at a time has a lock, and the next one gets it when its function has settled', async (t) => {
  const apps = [await setUp(t), await setUp(t), await setUp(t)]
  let running = 0
  const results = await Promise.all(apps.map((app, i) => app.db.lock('job', async ({ signal }) => {
    t.equal(++running, 1)
    await sleep(20)
    t.equal(signal.aborted, false)
    running--
    return i
  })))
  t.same(results, [0, 1, 2])
  await free()
})

t.test('a function that throws releases the lock, and its error is passed on', async (t) => {
  const app = await setUp(t)
  const error = new Error('ours')
  t.equal(await app.db.lock('job', () => { throw error }).catch((error) => error), error)
  await free()
})

t.test('locks of different keys are held side by side, and do not count against pool.max', async (t) => {
  const app = await setUp(t, { pool: { max: 1 } })
  await app.db.lock('a', () => app.db.lock(7, () => app.db.lock(-8n, async () => {
    t.equal((await locks()).length, 3)
    t.equal((await app.db.query('SELECT 1')).rowCount, 1)
  })))
})

t.test('SQL can take the same lock', async (t) => {
  const app = await setUp(t)
  const keys = [['job', 'hashtextextended(\'job\', 0)'], [42, '42'], [2n ** 63n - 1n, '9223372036854775807']] as const
  for (const [key, sql] of keys) {
    const question = `SELECT pg_try_advisory_xact_lock(${sql}) AS locked`
    await app.db.lock(key, async () => { t.equal((await app.db.query(question)).rows[0].locked, false) })
    await free()
    t.equal((await app.db.query(question)).rows[0].locked, true)
  }
})

t.test('`wait` limits the wait; 0 does not wait', async (t) => {
  const app = await setUp(t)
  const expected = { code: 'FST_PG_SCOPE_LOCK_NOT_AVAILABLE', statusCode: 503 }
  await app.db.lock('job', async () => {
    for (const wait of [0, 50]) await t.rejects(app.db.lock('job', () => t.fail('no lock'), { wait }), expected)
  })
  await free()
  t.equal(await app.db.lock('job', () => 1, { wait: 0 }), 1)
})

t.test('a lock whose connection is lost aborts the signal, and lock() rejects even if its function goes on', async (t) => {
  const app = await setUp(t)
  let reason: unknown
  const outcome = app.db.lock('job', async ({ signal }) => {
    const [held] = await locks()
    await postgres.query('SELECT pg_terminate_backend($1)', [held!.pid])
    await waitFor(() => signal.aborted)
    reason = signal.reason
    return 'done all the same'
  })
  await t.rejects(outcome, { code: 'FST_PG_SCOPE_LOCK_LOST', statusCode: 503 })
  t.match(reason, { code: 'FST_PG_SCOPE_LOCK_LOST', cause: { code: 'FST_PG_SCOPE_CONNECTION_LOST' } })
})

t.test('a connection that is lost while it waits for the lock rejects lock()', async (t) => {
  const app = await setUp(t)
  await app.db.lock('job', async () => {
    const waiting = app.db.lock('job', () => t.fail('no lock'))
    waiting.catch(() => {})
    await waitFor(async () => (await locks()).length === 2)
    await postgres.query('SELECT pg_terminate_backend($1)', [(await locks())[0]!.pid])
    await t.rejects(waiting, { code: '57P01' })
  })
})

t.test('a signal ends the wait on the server at once, and tells a running function to end', async (t) => {
  const app = await setUp(t)
  const controller = new AbortController()
  await app.db.lock('job', async () => {
    const waiting = app.db.lock('job', () => t.fail('no lock'), { signal: controller.signal })
    waiting.catch(() => {})
    await waitFor(async () => (await locks()).length === 2)
    controller.abort()
    await t.rejects(waiting, { code: 'FST_PG_SCOPE_CANCELED' })
    t.equal((await locks()).length, 1)
  })
  const second = new AbortController()
  await t.rejects(app.db.lock('job', ({ signal }) => {
    second.abort()
    signal.throwIfAborted()
  }, { signal: second.signal }), { code: 'FST_PG_SCOPE_CANCELED' })
  await t.rejects(app.db.lock('job', () => {}, { signal: second.signal }), { code: 'FST_PG_SCOPE_CANCELED' })
  await free()
})

t.test('close() tells the function to end, and waits for it', async (t) => {
  const app = await setUp(t)
  let ended = false
  const held = app.db.lock('leader', async ({ signal }) => {
    await waitFor(() => signal.aborted)
    await sleep(20)
    ended = true
    return signal.reason.code
  })
  await waitFor(async () => (await locks()).length === 1)
  const waiting = app.db.lock('leader', () => t.fail('no lock'))
  waiting.catch(() => {})
  await waitFor(async () => (await locks()).length === 2)
  await app.close()
  t.equal(ended, true)
  t.equal(await held, 'FST_PG_SCOPE_CLOSED')
  await t.rejects(waiting, { code: 'FST_PG_SCOPE_CLOSED' })
  await free()
  await t.rejects(app.db.lock('leader', () => {}), { code: 'FST_PG_SCOPE_CLOSED' })
})

t.test('a function that never ends is left after closeTimeout, and its lock is released', async (t) => {
  const app = await setUp(t, { closeTimeout: 100 })
  app.db.lock('leader', () => new Promise(() => {})).catch(() => {})
  await waitFor(async () => (await locks()).length === 1)
  await app.close()
  await free()
})

t.test('a key or an option that is invalid is rejected', async (t) => {
  const app = await setUp(t)
  const expected = { code: 'FST_PG_SCOPE_OPTIONS', details: /`key` must be a non-empty string/ }
  for (const key of ['', 'zero\0', 1.5, 2 ** 60, 2n ** 63n, null, {}]) {
    await t.rejects(app.db.lock(key as string, () => {}), expected)
  }
  await t.rejects(app.db.lock('a', undefined as never), { code: 'FST_PG_SCOPE_QUERY_INVALID' })
  await t.rejects(app.db.lock('a', () => {}, { wait: -1 }), { code: 'FST_PG_SCOPE_OPTIONS' })
  await t.rejects(app.db.lock('a', () => {}, { timeout: 1 } as never), { code: 'FST_PG_SCOPE_OPTIONS' })
})
