import t, { type Test } from 'tap'
import { strategies } from '../../../harness/variant.ts'
import { waitFor } from '../../../harness/wait-for.ts'
import { openSandbox } from '../../../lib/testing/index.ts'
import { named, sandboxDatabase } from './sandbox-app.ts'

const { postgres, open, openApp, outside } = await sandboxDatabase(t)

t.afterEach(async () => { await postgres.query('TRUNCATE things, owners') })

for (const strategy of strategies) {
  const pool = { strategy }
  const test = (name: string, fn: (t: Test) => Promise<void>): void => { t.test(`${name} (strategy ${strategy})`, fn) }

  test('what a request commits is seen by the next, by no other connection, and undone by rollback()', async (t) => {
    const { sandbox, run, inside, app } = await open(t, { pool })
    t.match(await run(named('a')), { status: 200 })
    t.match(await run([named('b'), 'SELECT 1/0']), { status: 500 })
    t.same(await inside(), ['a'])
    t.same(await outside(), [])
    await sandbox.rollback()
    t.same(await inside(), [])
    t.match(await run(named('a')), { status: 200 }, 'the same again')
    await sandbox.close()
    await sandbox.close()
    t.same(await inside(), [])
    t.match(await run(named('c')), { status: 200 })
    t.same(await outside(), ['c'], 'the app works on the database again')
    t.match(app.db.stats(), { max: 10 })
  })

  test('the same requests get the same answers as without a sandbox', async (t) => {
    const requests: [texts: string[], path?: string][] = [
      [[named('a')]],
      [[named('a')]],
      [[named('b'), 'SELECT * FROM things ORDER BY name']],
      [["INSERT INTO things VALUES ('c', 'nobody')"]],
      [["INSERT INTO things VALUES ('c', 'ann')", "INSERT INTO owners VALUES ('ann')"]],
      [["INSERT INTO things VALUES ('d', 'nobody')"], '/auto'],
      [['SET CONSTRAINTS ALL IMMEDIATE', "INSERT INTO things VALUES ('e', 'nobody')"]],
      [["INSERT INTO things VALUES ('e', NULL, 1)", "INSERT INTO things VALUES ('f', NULL, 1)", 'SELECT 1']],
      [["INSERT INTO things VALUES ('e', NULL, 1)", 'SET CONSTRAINTS ALL DEFERRED']],
      [["INSERT INTO things VALUES ('f', NULL, 1)", 'SELECT 1/0']],
      [['SELECT 1/0'], '/auto'],
      [[named('g')], '/read'],
      [[named('g')], '/auto-read'],
      [[named('g')], '/serializable'],
      [[named('h'), named('h')], '/auto'],
      [["SELECT current_user = 'visitor' AS visitor, current_setting('app.tenant') AS tenant", named('i'), 'SHOW statement_timeout'], '/tenant'],
      [["SELECT current_user = 'visitor' AS visitor, current_setting('app.tenant') AS tenant"], '/auto-tenant'],
      [['SHOW statement_timeout'], '/auto-tenant'],
      [["SELECT coalesce(current_setting('app.tenant', true), '') AS tenant, current_user = 'visitor' AS visitor, current_setting('statement_timeout') AS timeout"]],
      [[`${named('j')}; ${named('k')}`]],
      [[`${named('l')}; ${named('l')}`]],
      [[`${named('l')}; COMMIT; ${named('m')}`]],
      [['COMMIT']],
      [['BEGIN'], '/auto'],
      [['SAVEPOINT s']],
      [['SELECT name FROM things WHERE name > \'l\' ORDER BY name']],
      [['SELEKT']],
      [[''], '/auto'],
      [['SET TRANSACTION ISOLATION LEVEL SERIALIZABLE', 'SELECT 1 AS one']],
      [['SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY', named('n')]],
      [['SELECT count(*) FROM things']],
      [['DO $$ BEGIN RAISE EXCEPTION \'mine\'; END $$']],
      [['CREATE TEMP TABLE scratch (a int) ON COMMIT DROP', 'INSERT INTO scratch VALUES (1)', 'SELECT * FROM scratch']],
      [['CREATE TEMP TABLE scratch (a int) ON COMMIT DROP', 'SELECT * FROM scratch']]
    ]
    const { sandbox, run } = await open(t, { pool })
    const answers = []
    for (const [texts, path] of requests) answers.push([texts, await run(texts, path)])
    await sandbox.close()
    t.same(await outside(), [])
    for (const [i, [texts, path]] of requests.entries()) t.same(answers[i], [texts, await run(texts, path)], texts.join('; '))
  })

  test('a failure of COMMIT by a deferred constraint answers 409, and the next session begins as usual', async (t) => {
    const { run, app } = await open(t, { pool })
    t.match(await run("INSERT INTO things VALUES ('a', 'nobody')"), { status: 409, body: { code: 'FST_PG_SCOPE_CONSTRAINT_VIOLATION' } })
    t.match(await run(["INSERT INTO things VALUES ('a', 'ann')", "INSERT INTO owners VALUES ('ann')"]), { status: 200 }, 'deferred again')
    await t.rejects(app.db.query("INSERT INTO things VALUES ('b', 'nobody')"), { code: '23503' })
    t.match(await run(["INSERT INTO things VALUES ('b', NULL, 1)", "INSERT INTO things VALUES ('c', NULL, 1)"]), { body: { code: '23505' } }, 'not deferred')
  })

  test('hooks run by the outcome of their own request', async (t) => {
    const { run, app } = await openApp(t, { pool })
    const hooks: string[] = []
    app.get<{ Querystring: { fail?: string } }>('/hooks', async (request) => {
      await request.db.query("INSERT INTO things VALUES ('a', $1)", [request.query.fail === 'commit' ? 'nobody' : null])
      request.db.afterCommit(() => { hooks.push('committed') })
      request.db.afterRollback(() => { hooks.push('rolled back') })
      if (request.query.fail === 'handler') throw new Error('no')
      return 'done'
    })
    await using sandbox = await openSandbox(app)
    for (const url of ['/hooks?fail=handler', '/hooks?fail=commit', '/hooks']) await app.inject(url)
    t.same(hooks, ['rolled back', 'rolled back', 'committed'])
    t.match(await run('SELECT count(*)::int FROM things'), { body: [{ count: 1 }] })
    t.ok(sandbox)
  })

  test('settings, role, limits and modes of a session end with it, however they were set', async (t) => {
    const { run, app } = await open(t, { pool })
    const state = "SELECT current_setting('app.tenant', true) AS tenant, current_user = session_user AS self, " +
      "current_setting('statement_timeout') AS statement, current_setting('search_path') AS path, current_setting('transaction_read_only') AS read"
    const before = { ...(await run(state)).body[0], tenant: '' }
    const unchanged = async (): Promise<void> => { t.match((await run(state)).body, [before]) }
    await run("SELECT set_config('app.tenant', '', true)")
    for (const path of ['/tenant', '/auto-tenant', '/read', '/auto-read']) {
      t.match(await run('SELECT 1', path), { status: 200 })
      await unchanged()
    }
    for (const text of ['SELECT become_tenant()', 'SET LOCAL search_path = pg_catalog', 'SET LOCAL ROLE visitor', 'SET TRANSACTION READ ONLY', 'SET LOCAL statement_timeout = 4000', 'SET search_path = pg_catalog', 'SET ROLE visitor']) {
      for (const texts of [[text], [text, 'SELECT 1/0']]) {
        await run(texts)
        await unchanged()
      }
    }
    await app.db.scope((db) => db.transaction((inner) => inner.query("SET LOCAL app.tenant = 'ten'")))
    await unchanged()
    t.match(await run(named('a')), { status: 200 })
  })

  test('a read-only session refuses writes, and the next one writes', async (t) => {
    const { run, inside } = await open(t, { pool })
    for (const path of ['/read', '/auto-read']) {
      t.match(await run(named('a'), path), { body: { code: '25006' } })
      t.match(await run('SELECT 1 AS one', path), { body: [{ one: 1 }] })
    }
    t.match(await run(named('a')), { status: 200 })
    t.match(await run(named('b'), '/auto'), { status: 200 })
    t.same(await inside(), ['a', 'b'])
  })

  test('scope(), session(), savepoints and autocommit sessions work as on a database', async (t) => {
    const { app: { db }, inside } = await open(t, { pool })
    const insert = (session: Pick<typeof db, 'query'>, name: string) => session.query('INSERT INTO things VALUES ($1)', [name])
    await t.rejects(db.scope(async (session) => {
      await insert(session, 'a')
      throw new Error('no')
    }), { message: 'no' })
    await db.scope(async (session) => {
      await insert(session, 'b')
      await session.transaction((inner) => insert(inner, 'c'))
      await t.rejects(session.transaction(async (inner) => {
        await insert(inner, 'd')
        await insert(inner, 'd')
      }), { code: '23505' })
      const savepoint = await session.savepoint()
      await insert(session, 'e')
      await savepoint.rollback()
    })
    t.same(await inside(), ['b', 'c'])
    const session = db.session()
    await insert(session, 'f')
    await session.rollback()
    await insert(session, 'g')
    await session.commit()
    await session.close()
    await db.scope(async (session) => {
      await insert(session, 'h')
      await t.rejects(insert(session, 'h'), { code: '23505' })
      await insert(session, 'i')
      await t.rejects(session.transaction(async () => {
        await insert(session, 'j')
        throw new Error('no')
      }), { message: 'no' })
      await session.transaction((inner) => insert(inner, 'k'))
    }, { mode: 'autocommit' })
    t.same(await inside(), ['b', 'c', 'g', 'h', 'i', 'k'])
    const rows = await Promise.all([1, 2, 3].map(async (n) => (await db.query('SELECT $1::int AS n', [n])).rows[0].n))
    t.same(rows, [1, 2, 3])
    t.ok(await db.ping() > 0)
  })

  test('statements are prepared automatically, across sessions and after rollback()', async (t) => {
    const { app: { db }, sandbox } = await open(t, { pool })
    for (let round = 0; round < 3; round++) {
      for (let i = 0; i < 8; i++) await db.scope((session) => session.query('INSERT INTO things VALUES ($1)', [`thing ${i}`]))
      t.match((await db.query('SELECT count(*)::int FROM things')).rows, [{ count: 8 }])
      await sandbox.rollback()
    }
  })

  test('concurrent requests are served one after the other', async (t) => {
    const { run, inside } = await open(t, { pool })
    const answers = await Promise.all(Array.from({ length: 30 }, (_, i) =>
      run([named(`thing ${i}`), i % 3 === 0 ? 'SELECT 1/0' : 'SELECT count(*) FROM things'])))
    t.same(answers.map(({ status }) => status), answers.map((_, i) => i % 3 === 0 ? 500 : 200))
    t.equal((await inside()).length, 20)
  })

  test('a request that needs a second session while it holds one is told that a sandbox has one connection', async (t) => {
    const { run, app } = await openApp(t, { pool })
    app.get('/two', async (request) => {
      await request.db.query('SELECT 1')
      return (await app.db.query('SELECT 2')).rows
    })
    await openSandbox(app)
    const response = await app.inject('/two')
    t.equal(response.statusCode, 503)
    t.match(response.json(), { code: 'FST_PG_SCOPE_POOL_DEADLOCK', message: /sandbox.* has one connection/ })
    t.match(await run(named('a')), { status: 200 }, 'and the next request is served')
    await t.rejects(app.db.scope(async (session) => {
      await session.query('SELECT 1')
      await app.inject('/two').then(({ statusCode }) => t.equal(statusCode, 503))
      await app.db.scope((other) => other.query('SELECT 1'))
    }), { code: 'FST_PG_SCOPE_POOL_DEADLOCK' })
    const session = app.db.session()
    await session.query('SELECT 1')
    const late = await openApp(t, { pool: { strategy, acquireTimeout: 300 } })
    await openSandbox(late.app)
    const holding = late.app.db.session()
    await holding.query('SELECT 1')
    t.match(await late.run('SELECT 1'), { status: 503, body: { code: 'FST_PG_SCOPE_POOL_EXHAUSTED', message: /has one connection/ } })
    await holding.close()
    await session.close()
  })
}

t.test('with resolveCommits and retry, requests are committed and rolled back as without', async (t) => {
  const { run, inside } = await open(t, { resolveCommits: true, retry: 2 })
  t.match(await run(named('a')), { status: 200 })
  t.match(await run(named('b'), '/auto'), { status: 200 })
  t.match(await run("INSERT INTO things VALUES ('c', 'nobody')"), { status: 409, body: { code: 'FST_PG_SCOPE_CONSTRAINT_VIOLATION' } })
  t.match(await run([named('c'), 'SELECT 1/0']), { status: 500 })
  t.same(await inside(), ['a', 'b'])
})

t.test('a transaction that is idle for long does not end the sandbox', async (t) => {
  const { run, inside } = await open(t, { idleInTransactionTimeout: 100 })
  await run(named('a'))
  await postgres.query('SELECT pg_sleep(0.3)')
  t.same(await inside(), ['a'])
})

t.test('with default_transaction_read_only, sessions are read-only unless they say otherwise', async (t) => {
  const connectionString = `${postgres.connectionString}?options=-c%20default_transaction_read_only%3Don`
  const { run, app } = await open(t, { connectionString })
  t.match(await run(named('a')), { body: { code: '25006' } })
  await app.db.scope((db) => db.query(named('a')), { readOnly: false })
  t.match(await run('SELECT name FROM things'), { body: [{ name: 'a' }] })
})

t.test('app.close() ends the sandbox, and leaves no connection', async (t) => {
  const { app, sandbox, run } = await open(t)
  await run(named('a'))
  await app.close()
  await waitFor(async () => (await postgres.activity()).length === 0)
  t.same(await outside(), [])
  await sandbox.close()
  await t.rejects(sandbox.rollback(), { code: 'FST_PG_SCOPE_TESTING', message: /after close/ })
})

t.test('the server that loses the connection is named, and rollback() begins anew', async (t) => {
  const { app, sandbox, run, inside } = await open(t)
  await run(named('a'))
  const session = app.db.session()
  await session.query('SELECT 1')
  await postgres.query('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = \'idle in transaction\'')
  await t.rejects(session.query('SELECT 1'), { code: 'FST_PG_SCOPE_CONNECTION_LOST' })
  await session.close().catch(() => {})
  t.match(await run('SELECT 1'), { status: 503, body: { code: 'FST_PG_SCOPE_UNREACHABLE', message: /the sandbox has lost its connection.*administrator command/ } })
  await sandbox.rollback()
  t.same(await inside(), [])
  t.match(await run(named('b')), { status: 200 })
  await sandbox.close()
  t.same(await inside(), [])
})

t.test('rollback() waits for a transaction that is about to end, and says so if it does not', async (t) => {
  const { app, sandbox, inside } = await open(t, { pool: { acquireTimeout: 300 } })
  const session = app.db.session()
  await session.query(named('a'))
  await t.rejects(sandbox.rollback(), { code: 'FST_PG_SCOPE_TESTING', message: /has its transaction open.*300 ms/ })
  const rolledBack = sandbox.rollback()
  await session.commit()
  await rolledBack
  t.same(await inside(), [])
  await session.query(named('b'))
  await session.commit()
  t.same(await inside(), ['b'], 'the session goes on in the next round')
  await session.close()
})

t.test('close() waits for open sessions, up to closeTimeout', async (t) => {
  const { app, sandbox } = await open(t, { closeTimeout: 300 })
  const session = app.db.session()
  await session.query(named('a'))
  const closed = sandbox.close()
  await session.query(named('b'))
  await session.commit()
  await session.close()
  await closed
  const second = await openSandbox(app)
  const stuck = app.db.session()
  await stuck.query(named('a'))
  await second.close()
  await t.rejects(stuck.query('SELECT 1'), { code: 'FST_PG_SCOPE_CONNECTION_LOST' })
  await stuck.close().catch(() => {})
  t.same(await outside(), [])
  t.ok((await app.db.query('SELECT 1')).rows)
})
