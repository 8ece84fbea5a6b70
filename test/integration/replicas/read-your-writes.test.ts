import cookie from '@fastify/cookie'
import t from 'tap'
import { openLoggedApp, type LoggedApp } from '../../../harness/logged-app.ts'
import pgScope, { type PgScopeOptions } from '../../../harness/plugin.ts'
import { startPgProxy } from '../../../harness/pg-proxy.ts'
import { startPgBouncer } from '../../../harness/pgbouncer.ts'
import { startCluster, type ClusterServer } from '../../../harness/standby.ts'
import { strategies } from '../../../harness/variant.ts'
import { waitFor } from '../../../harness/wait-for.ts'
import type { FastifyInstance } from 'fastify'
import type { Test } from 'tap'

/** Another version of PostgreSQL, if this names its folder. */
const installation = process.env.PG_SCOPE_TEST_POSTGRES || undefined
const { primary, standbys: [standby] } = await startCluster(t, { installation })
const replica = standby!
await primary.query('CREATE TABLE item (n int PRIMARY KEY, one int UNIQUE DEFERRABLE INITIALLY DEFERRED)')
await primary.query('CREATE FUNCTION add_item(int) RETURNS void LANGUAGE sql AS $$ INSERT INTO item (n) VALUES ($1) $$')
await replica.caughtUp()

interface Line { level: number, msg: string }
const lsn = 'x-pg-scope-lsn'
const secret = 'the same for all processes'
const select = "SELECT count(*)::int AS n, current_setting('cluster_name') AS place FROM item WHERE n = $1"

/** An app that writes by POST /n and reads by GET /n. */
async function open (
  t: Test, plugin: PgScopeOptions = {}, before: (app: FastifyInstance) => unknown = () => {}
): Promise<LoggedApp<Line>> {
  const opened = await openLoggedApp<Line>(primary.connectionString, { register: false })
  const { app } = opened
  t.teardown(() => app.close())
  await before(app)
  const all = { replicas: [replica.connectionString], readYourWrites: { secret }, ...plugin }
  await app.register(pgScope, { connectionString: primary.connectionString, ...all })
  app.post<{ Params: { n: string } }>('/:n', async (request) => {
    await request.db.query('INSERT INTO item (n) VALUES ($1)', [request.params.n])
    return 'written'
  })
  app.post<{ Params: { n: string } }>('/alone/:n', { config: { db: { mode: 'autocommit' } } }, async (request) => {
    await request.db.query('INSERT INTO item (n) VALUES ($1)', [request.params.n])
    return 'written'
  })
  app.post<{ Params: { n: string } }>('/engine/:n', async (request) => {
    await app.db.query('INSERT INTO item (n) VALUES ($1)', [request.params.n])
    return 'written'
  })
  app.post<{ Params: { n: string } }>('/function/:n', async (request) => {
    await app.db.query('SELECT add_item($1)', [request.params.n])
    return 'written'
  })
  app.post<{ Params: { n: string } }>('/several/:n', { config: { db: { mode: 'autocommit' } } }, async (request) => {
    await request.db.query(`SELECT 1; INSERT INTO item (n) VALUES (${Number(request.params.n)})`)
    return 'written'
  })
  app.post('/nothing', async (request) => (await request.db.query('SELECT 1 AS one')).rows)
  app.post<{ Params: { n: string } }>('/by-hand/:n', async (request) => {
    await request.db.query('INSERT INTO item (n) VALUES ($1)', [request.params.n])
    await request.db.commit()
    throw new Error('after commit()')
  })
  app.post<{ Params: { n: string } }>('/deferred/:n', async (request) => {
    await request.db.query('INSERT INTO item (n, one) VALUES ($1, 1), ($1 + 1, 1)', [Number(request.params.n)])
    return 'written'
  })
  for (const [path, db] of [
    ['', {}], ['/repeatable', { isolation: 'repeatable read' }], ['/autocommit', { mode: 'autocommit' }]
  ] as const) {
    app.get<{ Params: { n: string } }>(`${path}/:n`, { config: { db: { readOnly: true, ...db } } }, async (request) =>
      (await request.db.query(select, [request.params.n])).rows[0])
  }
  return opened
}

let last = 0
const next = (): number => ++last

t.test('a client that sends back the header of its write reads it, others may read from a replica that is behind', async (t) => {
  const { app } = await open(t)
  await replica.pause()
  t.teardown(() => replica.resume())
  const n = next()
  const written = await app.inject({ method: 'POST', url: `/${n}` })
  const token = written.headers[lsn] as string
  t.match(token, /^\d+\.1\.[0-9A-F]+\/[0-9A-F]+\.[\w-]{43}$/)
  for (const path of ['', '/repeatable', '/autocommit']) {
    t.same((await app.inject(`${path}/${n}`)).json(), { n: 0, place: 'standby_1' }, 'without the header')
    t.same((await app.inject({ url: `${path}/${n}`, headers: { [lsn]: token } })).json(), { n: 1, place: 'primary' })
  }
  await replica.resume()
  await replica.caughtUp()
  for (const path of ['', '/autocommit']) {
    t.same((await app.inject({ url: `${path}/${n}`, headers: { [lsn]: token } })).json(), { n: 1, place: 'standby_1' })
  }
  await waitFor(async () =>
    (await app.inject({ url: `/repeatable/${n}`, headers: { [lsn]: token } })).json().place === 'standby_1')
})

t.test('what app.db.query() writes in a request is told, and does not open the session of the request', async (t) => {
  let decisions = 0
  const { app } = await open(t, { commitIf: () => ++decisions > 0 })
  for (const path of ['engine', 'function']) {
    t.match((await app.inject({ method: 'POST', url: `/${path}/${next()}` })).headers[lsn], String, path)
  }
  t.equal(decisions, 0)
})

t.test('what app.db.query() writes is told by routes declared before the plugin, and by a 404 handler', async (t) => {
  const insert = 'INSERT INTO item (n) VALUES ($1)'
  const { app } = await open(t, {}, (app) => {
    app.post('/early', async () => {
      await app.db.query(insert, [next()])
      return 'written'
    })
    app.setNotFoundHandler(async (_request, reply) => {
      await app.db.query(insert, [next()])
      return reply.code(202).send('written')
    })
  })
  for (const path of ['early', 'no/such/path']) {
    t.match((await app.inject({ method: 'POST', url: `/${path}` })).headers[lsn], String, path)
  }
})

t.test('what app.db.query() has begun to write before the request used its session is told', async (t) => {
  const { app } = await open(t)
  app.post('/both', async (request) => {
    const late = app.db.query('INSERT INTO item (n) VALUES ($1)', [next()])
    await request.db.query('SELECT 1')
    await late
    t.match(request.db.writtenAt, String)
    return 'written'
  })
  t.match((await app.inject({ method: 'POST', url: '/both' })).headers[lsn], String)
})

t.test('what app.db.query() writes beside a transaction(fn) that has ended meanwhile is told', async (t) => {
  const { app } = await open(t)
  app.post('/late', { config: { db: { mode: 'autocommit' } } }, async (request) => {
    let late: Promise<unknown> = Promise.resolve()
    await request.db.transaction(async () => {
      late = app.db.query(`INSERT INTO item (n) SELECT ${next()} FROM pg_sleep(0.2)`)
    })
    t.equal(request.db.writtenAt, null)
    await late
    return 'written'
  })
  t.match((await app.inject({ method: 'POST', url: '/late' })).headers[lsn], String)
})

t.test('a constraint that is checked as a statement commits by itself is an error of that statement', async (t) => {
  const text = 'INSERT INTO item (n, one) VALUES ($1, 1), ($1 + 1, 1)'
  const failures = []
  for (const readYourWrites of [false, { secret }] as const) {
    const { app } = await open(t, { readYourWrites })
    failures.push(await app.db.query(text, [Number(`${next()}000`)]).catch((error) => error))
  }
  for (const { statement, code, position } of failures) t.same({ statement, code, position }, { statement: text, code: '23505', position: undefined })
})

t.test('a scope with retry knows what app.db.query() has written in its failed attempts', async (t) => {
  const { app } = await open(t)
  const session = await app.db.scope(async (session) => {
    if (session.attempt === 1) {
      await app.db.query('INSERT INTO item (n) VALUES ($1)', [next()])
      throw Object.assign(new Error('a conflict'), { code: '40001' })
    }
    await session.query('SELECT 1')
    return session
  }, { retry: 2 })
  t.equal(session.attempt, 2)
  t.match(session.writtenAt, String)
})

for (const strategy of strategies) {
  t.test(`${strategy}: statements that commit by themselves tell where they have written, too`, async (t) => {
    const proxy = await startPgProxy(t, primary)
    const connectionString = proxy.connectionString(primary.connectionString)
    const { app, log } = await open(t, { connectionString, pool: { strategy, max: 2 } })
    await replica.pause()
    t.teardown(() => replica.resume())
    for (const path of ['/alone', '/engine', '/function', '/several']) {
      const n = next()
      const { statusCode, headers } = await app.inject({ method: 'POST', url: `${path}/${n}` })
      t.equal(statusCode, 200)
      const read = await app.inject({ url: `/${n}`, headers: { [lsn]: headers[lsn] } })
      t.same(read.json(), { n: 1, place: 'primary' }, path)
    }

    const n = next()
    const kept = await app.db.scope(async (session) => {
      await app.db.query('INSERT INTO item (n) VALUES ($1)', [n])
      t.match(session.writtenAt, String, 'the session around app.db.query() knows')
      await t.rejects(app.db.query('INSERT INTO item (n) VALUES ($1)', [n]), { code: '23505', constraint: 'item_pkey' })
      const before = session.writtenAt
      t.same((await app.db.query('SELECT n FROM item WHERE n = $1', [n])).rows, [{ n }], 'after a failure')
      t.equal(session.writtenAt, before)
      await t.rejects(app.db.query('INSERT INTO item (n, one) VALUES ($1, 2), ($1 + 1, 2)', [n * 1000]), { code: '23505' }, 'at COMMIT')
      return session.writtenAt
    })
    t.match(kept, String)
    t.equal(app.db.stats().inUse, 0)
    const lost = proxy.cutOn(/^insert/i, { after: true })
    await t.rejects(app.db.query('INSERT INTO item (n) VALUES ($1)', [next()]), { code: 'FST_PG_SCOPE_COMMIT_UNKNOWN' })
    await lost.sprung
    t.match(log.filter(({ level }) => level >= 40), [])
  })
}

t.test('only what was committed is told, whatever the response is', async (t) => {
  const { app } = await open(t)
  t.equal((await app.inject({ method: 'POST', url: '/nothing' })).headers[lsn], undefined)
  const failed = await app.inject({ method: 'POST', url: `/deferred/${next() * 1000}` })
  t.match(failed, { statusCode: 409 })
  t.equal(failed.headers[lsn], undefined)
  const byHand = await app.inject({ method: 'POST', url: `/by-hand/${next()}` })
  t.match(byHand, { statusCode: 500, headers: { [lsn]: String } })
})

t.test('with @fastify/cookie it is a cookie, which the browser sends back to any process with the same secret', async (t) => {
  const before = (app: FastifyInstance): unknown => app.register(cookie as never)
  const { app } = await open(t, {}, before)
  const { app: other } = await open(t, {}, before)
  await replica.pause()
  t.teardown(() => replica.resume())
  const n = next()
  const { cookies, headers } = await app.inject({ method: 'POST', url: `/${n}` })
  t.match(cookies, [{ name: 'pg-scope-lsn', path: '/', httpOnly: true, sameSite: 'Lax' }])
  t.equal(headers[lsn], undefined)
  const { name, value } = cookies[0]!
  t.same((await other.inject({ url: `/${n}`, cookies: { [name]: value } })).json(), { n: 1, place: 'primary' })
})

t.test('a token that is forged, or signed by another secret, is ignored and logged once', async (t) => {
  const { app, log } = await open(t)
  const { app: other } = await open(t, { readYourWrites: true })
  const foreign = (await other.inject({ method: 'POST', url: `/${next()}` })).headers[lsn] as string
  const own = (await app.inject({ method: 'POST', url: `/${next()}` })).headers[lsn] as string
  for (const token of [foreign, own.replace(/^\d/, '9'), 'x', '.', own.slice(0, -1), `${own}, ${own}`]) {
    t.equal((await app.inject({ url: '/1', headers: { [lsn]: token } })).json().place, 'standby_1', token)
  }
  t.match(log.filter(({ msg }) => msg.includes('readYourWrites.secret')), [{ level: 40 }])
})

t.test('readYourWrites: false asks nothing and tells nothing', async (t) => {
  const { app } = await open(t, { readYourWrites: false })
  t.equal((await app.inject({ method: 'POST', url: `/${next()}` })).headers[lsn], undefined)
})

t.test('writtenAt of a session is notBefore of work that follows', async (t) => {
  const { app, log } = await open(t)
  const read = (n: number, options: object) =>
    app.db.scope(async (session) => (await session.query(select, [n])).rows[0], { readOnly: true, ...options })
  await replica.pause()
  t.teardown(() => replica.resume())
  await using session = app.db.session()
  t.equal(session.writtenAt, null)
  await session.query('SELECT 1')
  await session.commit()
  t.equal(session.writtenAt, null, 'nothing was written')
  const n = next()
  await session.query('INSERT INTO item (n) VALUES ($1)', [n])
  await session.commit()
  const { writtenAt } = session
  t.match(writtenAt, /^\d+\.1\.[0-9A-F]+\/[0-9A-F]+$/)
  t.same(await read(n, {}), { n: 0, place: 'standby_1' })
  t.same(await read(n, { notBefore: null }), { n: 0, place: 'standby_1' })
  for (const isolation of ['read committed', 'repeatable read']) {
    t.same(await read(n, { notBefore: writtenAt, isolation }), { n: 1, place: 'primary' }, isolation)
  }
  t.same(await read(n, { notBefore: writtenAt, mode: 'autocommit' }), { n: 1, place: 'primary' })
  await t.rejects(read(n, { notBefore: writtenAt, fallback: false }), { code: 'FST_PG_SCOPE_NO_REPLICA' })
  const refused = { code: 'FST_PG_SCOPE_OPTIONS', details: /`notBefore` must be `writtenAt`/ }
  await t.rejects(read(n, { notBefore: '0/1' }), refused)

  const [system, , position] = writtenAt!.split('.')
  t.equal((await read(n, { notBefore: `${system}.7.0/1` })).place, 'primary', 'a later timeline')
  t.equal((await read(n, { notBefore: `123.1.${position}` })).place, 'standby_1', 'another system')
  await read(n, { notBefore: `123.1.${position}` })
  t.match(log.filter(({ msg }) => msg.includes('another PostgreSQL system')), [{ level: 40 }])

  const scoped = await app.db.scope(async (session) => {
    await session.transaction((inner) => inner.query('INSERT INTO item (n) VALUES ($1)', [next()]))
    return session
  }, { mode: 'autocommit' })
  t.match(scoped.writtenAt, String, 'a transaction(fn) of mode autocommit')
})

for (const strategy of strategies) {
  t.test(`${strategy}: no stale read while the replica lags, and none of its reads fails`, async (t) => {
    const { app } = await open(t, { pool: { strategy, max: 4 } })
    await replica.lag(150)
    t.teardown(() => replica.lag(0))
    const stale: number[] = []
    await Promise.all(Array.from({ length: 8 }, async () => {
      for (let i = 0; i < 10; i++) {
        const n = next()
        const { headers } = await app.inject({ method: 'POST', url: `/${n}` })
        for (const path of ['', '/repeatable', '/autocommit']) {
          const answer = (await app.inject({ url: `${path}/${n}`, headers: { [lsn]: headers[lsn] } })).json()
          if (answer.n !== 1) stale.push(n)
        }
      }
    }))
    t.same(stale, [])
  })
}

const { rows: [{ version }] } = await primary.query("SELECT current_setting('server_version_num')::int AS version")
if (version >= 190000) {
  t.test('PostgreSQL 19 waits until the replica has replayed the write', async (t) => {
    const { app } = await open(t, { waitForReplica: 60000 })
    await replica.lag(300)
    t.teardown(() => replica.lag(0))
    for (const path of ['', '/repeatable', '/autocommit']) {
      const n = next()
      const { headers } = await app.inject({ method: 'POST', url: `/${n}` })
      const read = await app.inject({ url: `${path}/${n}`, headers: { [lsn]: headers[lsn] } })
      t.same(read.json(), { n: 1, place: 'standby_1' }, path)
    }
  })
}

t.test('behind PgBouncer it works, too', async (t) => {
  const front = async (server: ClusterServer): Promise<string> => (await startPgBouncer(t, server)).connectionString
  const { app } = await open(t, { connectionString: await front(primary), replicas: [await front(replica)] })
  await replica.pause()
  t.teardown(() => replica.resume())
  const n = next()
  const token = (await app.inject({ method: 'POST', url: `/${n}` })).headers[lsn] as string
  t.same((await app.inject({ url: `/${n}`, headers: { [lsn]: token } })).json(), { n: 1, place: 'primary' })
})

t.test('a write and a read take as many round trips as without replicas', async (t) => {
  const count = async (replicas: boolean, path = ''): Promise<number[]> => {
    const [front, back] = [await startPgProxy(t, primary), await startPgProxy(t, replica)]
    const connectionString = front.connectionString(primary.connectionString)
    const { app } = await open(t, replicas
      ? { connectionString, replicas: [back.connectionString(replica.connectionString)] }
      : { connectionString, replicas: undefined })
    const pair = async (): Promise<void> => {
      const n = next()
      const { headers } = await app.inject({ method: 'POST', url: `${path}/${n}` })
      await replica.caughtUp()
      await app.inject({ url: `/${n}`, headers: replicas ? { [lsn]: headers[lsn] } : {} })
      await waitFor(() => app.db.stats().inUse === 0)
    }
    await pair()
    front.reset()
    const trips = app.db.stats().replicas[0]?.counters.roundTrips ?? 0
    await pair()
    const reads = app.db.stats().replicas[0]?.counters.roundTrips ?? 0
    return [front.roundTrips, reads - trips]
  }
  const [all] = await count(false)
  const [writes, reads] = await count(true)
  t.equal(writes! + reads!, all)
  t.equal(reads, 2)
  for (const path of ['/alone', '/engine']) t.same(await count(true, path), [1, 2], path)
})
