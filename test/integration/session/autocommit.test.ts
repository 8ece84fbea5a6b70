import t from 'tap'
import Fastify from 'fastify'
import { setTimeout as sleep } from 'node:timers/promises'
import pgScope from '../../../harness/plugin.ts'
import { startPgProxy } from '../../../harness/pg-proxy.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { byStrategy } from '../../../harness/variant.ts'
import { waitFor } from '../../../harness/wait-for.ts'
import type { ScopeOptions } from '../../../types/options.ts'
import type { Session } from '../../../types/session.ts'

const postgres = await startTestPostgres(t)
await postgres.query('CREATE TABLE things (name text PRIMARY KEY)')
const app = Fastify()
await app.register(pgScope, { connectionString: postgres.connectionString, pool: { max: 5 } })
app.get('/', { config: { db: { mode: 'autocommit' } } }, async (request) => {
  await request.db.query('INSERT INTO things VALUES (\'a\')')
  throw new Error('late')
})
t.teardown(() => app.close())

const { db } = app
const autocommit = { mode: 'autocommit' } as const
const scope = <T>(
  fn: (session: Session) => Promise<T> | T, options: ScopeOptions = {}
) => db.scope(fn, { ...autocommit, ...options })
const names = async (): Promise<string[]> => (await postgres.query('SELECT name FROM things ORDER BY name')).rows.map(({ name }) => name)
const insert = (session: Session, name: string) => session.query('INSERT INTO things VALUES ($1)', [name])
const pid = async (session: Session): Promise<number> => (await session.query('SELECT pg_backend_pid() AS pid')).rows[0].pid

t.beforeEach(() => postgres.query('TRUNCATE things'))

t.test('each statement is committed by itself, and nothing stays open in between', async t => {
  await t.rejects(scope(async (session) => {
    await insert(session, 'a')
    t.same(await names(), ['a'])
    t.equal(session.state, 'idle')
    t.equal(db.stats().inUse, 0)
    t.notOk((await postgres.activity()).some(({ state }) => state !== 'idle'))
    throw new Error('late')
  }), { message: 'late' })
  t.same(await names(), ['a'])
})

t.test('a route says so for itself', async t => {
  t.equal((await app.inject('/')).statusCode, 500)
  t.same(await names(), ['a'])
})

t.test('a failed statement harms no other', async t => {
  await scope(async (session) => {
    await insert(session, 'a')
    await t.rejects(insert(session, 'a'), { code: '23505' })
    await insert(session, 'b')
  })
  t.same(await names(), ['a', 'b'])
})

t.test('Promise.all runs on several connections at a time', async t => {
  await scope(async (session) => {
    const answers = await Promise.all([1, 2, 3, 4].map(() => session.query('SELECT pg_backend_pid() AS pid, clock_timestamp() AS begun, pg_sleep(1), clock_timestamp() AS ended')))
    t.equal(new Set(answers.map(({ rows }) => rows[0].pid)).size, 4)
    const times = answers.map(({ rows }) => rows[0])
    t.ok(Math.max(...times.map(({ begun }) => begun)) < Math.min(...times.map(({ ended }) => ended)), 'all before the first has ended')
  })
})

t.test('transaction(fn) is a real transaction: kept whole, or not at all', async t => {
  await scope(async (session) => {
    t.equal(await session.transaction(async (inner) => {
      await insert(inner, 'a')
      t.equal(await pid(inner), await pid(session), 'the outer name leads to it as well')
      await insert(session, 'b')
      t.same(await names(), [])
      return 'result'
    }), 'result')
    t.same(await names(), ['a', 'b'], 'committed when it resolves')
    const mine = new Error('mine')
    await t.rejects(session.transaction(async () => {
      await insert(session, 'c')
      throw mine
    }), mine)
    await t.rejects(session.transaction(async () => {
      await insert(session, 'd')
      await session.query('SELECT 1/0').catch(() => {})
    }), { code: 'FST_PG_SCOPE_TRANSACTION_ABORTED' })
    await insert(session, 'e')
  })
  t.same(await names(), ['a', 'b', 'e'])
})

t.test('a transaction(fn) inside of it is a savepoint', async t => {
  await scope((session) => session.transaction(async () => {
    await insert(session, 'a')
    await t.rejects(session.transaction(async (inner) => {
      await insert(inner, 'b')
      await inner.transaction(() => insert(session, 'c'))
      throw new Error('no')
    }), { message: 'no' })
    await session.transaction(() => insert(session, 'd'))
  }))
  t.same(await names(), ['a', 'd'])
})

t.test('two transaction(fn) at a time are two transactions', async t => {
  await scope(async (session) => {
    const pids: number[] = []
    await Promise.all([1, 2].map(() => session.transaction(async () => {
      await sleep(10)
      pids.push(await pid(session))
      await waitFor(() => pids.length === 2, { message: 'both are open' })
    })))
    t.not(pids[0], pids[1])
    const outcome = await Promise.allSettled([
      session.transaction(async () => {
        await insert(session, 'a')
        throw new Error('no')
      }),
      session.transaction(() => insert(session, 'b')),
      insert(session, 'c')
    ])
    t.same(outcome.map(({ status }) => status), ['rejected', 'fulfilled', 'fulfilled'])
  })
  t.same(await names(), ['b', 'c'])
})

t.test('a transaction whose COMMIT is refused rejects', async t => {
  await postgres.query('CREATE TABLE parts (thing text REFERENCES things DEFERRABLE INITIALLY DEFERRED)')
  t.teardown(() => postgres.query('DROP TABLE parts'))
  await scope(async (session) => {
    await t.rejects(session.transaction(() => session.query('INSERT INTO parts VALUES (\'nothing\')')), { code: 'FST_PG_SCOPE_CONSTRAINT_VIOLATION' })
    await t.rejects(session.query('INSERT INTO parts VALUES (\'nothing\')'), { code: '23503' })
  })
})

t.test('commit() and rollback() have nothing to do, setRollbackOnly() nothing to promise', async t => {
  await scope(async (session) => {
    await insert(session, 'a')
    await session.rollback()
    await session.commit()
    t.throws(() => session.setRollbackOnly(), { code: 'FST_PG_SCOPE_SESSION_STATE', details: /transaction\(fn\)/ })
    await session.transaction(async () => {
      await insert(session, 'b')
      session.setRollbackOnly()
    })
  })
  t.same(await names(), ['a'])
})

t.test('a stream has a transaction of its own, which is over with it', async t => {
  await scope(async (session) => {
    let count = 0
    for await (const { i } of session.stream('SELECT i FROM generate_series(1, $1::int) AS i', [2500])) {
      t.equal(i, ++count)
      if (i === 1200) await insert(session, 'in between')
    }
    t.equal(count, 2500)
    await waitFor(() => db.stats().inUse === 0)
    for await (const { i } of session.stream('SELECT generate_series(1, 100000) AS i')) if (i === 3) break
    await waitFor(() => db.stats().inUse === 0)
    await t.rejects(session.stream('SELECT 1/0').toArray(), { code: '22012' })
    await waitFor(() => db.stats().inUse === 0)
    await t.rejects(session.stream('COMMIT').toArray(), { code: 'FST_PG_SCOPE_TRANSACTION_CONTROL' })
  })
  t.same(await names(), ['in between'])
})

t.test('a stream that is not read to its end is closed with the session', async t => {
  const session = db.session(autocommit)
  const stream = session.stream('SELECT generate_series(1, 100000) AS i')
  await waitFor(() => db.stats().inUse === 1)
  await session.close()
  await waitFor(() => db.stats().inUse === 0)
  t.equal(stream.destroyed, true)
})

t.test('afterCommit runs at once, for everything is committed; in transaction(fn) it follows that', async t => {
  const ran: string[] = []
  await scope(async (session) => {
    session.afterCommit(() => ran.push('at once'))
    t.same(ran, ['at once'])
    session.afterRollback(() => ran.push('never'))
    await session.transaction(async () => {
      session.afterCommit(() => ran.push('committed'))
      await insert(session, 'a')
      t.same(ran, ['at once'])
    })
    t.same(ran, ['at once', 'committed'])
    await session.transaction(() => {
      session.afterCommit(() => ran.push('never'))
      session.afterRollback(() => ran.push('rolled back'))
      throw new Error('no')
    }).catch(() => {})
  })
  t.same(ran, ['at once', 'committed', 'rolled back'])
})

t.test('readOnly refuses writes, alone and in transaction(fn)', async t => {
  await scope(async (session) => {
    await t.rejects(insert(session, 'a'), { code: '25006' })
    await t.rejects(session.transaction(() => insert(session, 'a')), { code: '25006' })
    await t.rejects(session.query('INSERT INTO things VALUES (\'a\'); INSERT INTO things VALUES (\'b\')'), { code: '25006' })
    t.equal((await session.query('SELECT 1')).rowCount, 1)
  }, { readOnly: true })
  await scope((session) => insert(session, 'b'))
  t.same(await names(), ['b'], 'and is gone for the next user of the connection')
})

t.test('timeouts hold for each statement', async t => {
  await scope(async (session) => {
    await t.rejects(session.query('SELECT pg_sleep(10)'), { code: '57014' })
    await t.rejects(session.transaction(() => session.query('SELECT pg_sleep(10)')), { code: '57014' })
  }, { statementTimeout: 50 })
  t.equal((await db.query('SHOW statement_timeout')).rows[0].statement_timeout, '0')
})

t.test('a setting that fails keeps the statement from running', async t => {
  await t.rejects(scope((session) => insert(session, 'a'), { role: 'nobody' }), { code: '22023' })
  t.same(await names(), [])
  t.equal(db.stats().inUse, 0)
})

t.test('a signal cancels what runs, in transaction(fn) too', async t => {
  for (const run of [(session: Session) => session.query('SELECT pg_sleep(60)'), (session: Session) => session.transaction(() => session.query('SELECT pg_sleep(60)'))]) {
    const begun = performance.now()
    await t.rejects(scope(run, { signal: AbortSignal.timeout(100) }), { code: 'FST_PG_SCOPE_CANCELED' })
    await waitFor(async () => !(await postgres.activity()).some(({ state }) => state === 'active'))
    t.ok(performance.now() - begun < 30000)
    t.equal(db.stats().inUse, 0)
  }
})

t.test('a signal ends a statement that is lost on a dead network, and its connection is closed', async t => {
  const proxy = await startPgProxy(t, postgres)
  const app = Fastify()
  await app.register(pgScope, {
    connectionString: proxy.connectionString(postgres.connectionString), closeTimeout: 500
  })
  t.teardown(() => app.close())
  // On a kept connection an autocommitted statement was sent, and may have run; a new connection was never opened.
  const single = byStrategy({ queue: 'FST_PG_SCOPE_COMMIT_UNKNOWN', null: 'FST_PG_SCOPE_CANCELED' })
  for (const [options, code] of [[autocommit, single], [{}, 'FST_PG_SCOPE_CANCELED']] as const) {
    await app.db.query('SELECT 1')
    proxy.pause({ drop: true })
    const begun = performance.now()
    await t.rejects(app.db.scope((session) => session.query('SELECT 1'), { ...options, signal: AbortSignal.timeout(50) }), { code })
    t.ok(performance.now() - begun < 8000)
    t.equal(app.db.stats().inUse, 0)
    proxy.resume()
    t.equal((await app.db.query('SELECT 1')).rowCount, 1)
  }
})

t.test('a signal during the detection of the pooler ends the scope, and the connection serves others', async t => {
  const proxy = await startPgProxy(t, postgres)
  const app = Fastify()
  await app.register(pgScope, {
    connectionString: proxy.connectionString(postgres.connectionString), startupCheck: false
  })
  t.teardown(() => app.close())
  proxy.delay(100)
  const controller = new AbortController()
  // Where nothing is asked, it is the statement itself that the signal finds.
  const outcome = app.db.scope((session) => session.query('SELECT pg_sleep(5)'), { ...autocommit, signal: controller.signal }).catch((error) => error)
  await waitFor(() => proxy.executed.length > 0, { interval: 1 })
  controller.abort()
  t.match(await outcome, { code: 'FST_PG_SCOPE_CANCELED' })
  proxy.delay(0)
  t.equal((await app.db.query('SELECT 1')).rowCount, 1)
  // The connection is returned when no CancelRequest is on its way to it.
  await waitFor(() => app.db.stats().inUse === 0)
})

t.test('a signal that comes in transaction(fn) rejects it, although its function went on without the database', async t => {
  const controller = new AbortController()
  await t.rejects(scope((session) => session.transaction(async () => {
    await insert(session, 'a')
    controller.abort()
    await sleep(20)
  }), { signal: controller.signal }), { code: 'FST_PG_SCOPE_CANCELED' })
  t.same(await names(), [])
})

t.test('a scope waits for what its function left running', async t => {
  await scope((session) => {
    insert(session, 'a')
    session.transaction(async () => {
      await sleep(10)
      await insert(session, 'b')
    })
  })
  t.same(await names(), ['a', 'b'])
})

t.test('a closed session refuses everything', async t => {
  const session = db.session(autocommit)
  await session.close()
  const closed = { code: 'FST_PG_SCOPE_SESSION_CLOSED' }
  t.equal(session.state, 'closed')
  t.equal(session.signal.aborted, true)
  await t.rejects(session.query('SELECT 1'), closed)
  await t.rejects(session.transaction(() => t.fail('it ran')), closed)
  await t.rejects((async () => session.stream('SELECT 1').toArray())(), closed)
})

t.test('a function of transaction(fn) that goes on after its end cannot slip back into autocommit', async t => {
  let late!: Promise<unknown>
  await scope(async (session) => {
    await session.transaction(async (inner) => {
      await insert(inner, 'a')
      late = sleep(20).then(() => inner.query('SELECT 1'))
      late.catch(() => {})
    })
    await t.rejects(late, { code: 'FST_PG_SCOPE_SESSION_CLOSED' })
  })
})
