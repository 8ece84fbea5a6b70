import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import t from 'tap'
import { openLoggedApp, type LoggedApp } from '../../../harness/logged-app.ts'
import { startPgProxy, type PgProxy } from '../../../harness/pg-proxy.ts'
import type { PgScopeOptions } from '../../../harness/plugin.ts'
import { startTcpProxy } from '../../../harness/tcp-proxy.ts'
import { startCluster } from '../../../harness/standby.ts'
import { strategies } from '../../../harness/variant.ts'
import { gatherEach } from '../../../lib/cli/doctor/gather.ts'
import { resolveByPlugin } from '../../../lib/cli/doctor/plugin-options.ts'
import { cloneDatabase, openSandbox } from '../../../lib/testing/index.ts'
import type { Test } from 'tap'

const { primary, standbys: [standby] } = await startCluster(t)
const replica = standby!
const { user, password, database } = primary
const where = "SELECT current_setting('cluster_name') AS name"

/** A URL with the hosts and ports of these servers. */
function url (servers: { port: number }[], parameters = ''): string {
  const hosts = servers.map(({ port }) => `127.0.0.1:${port}`).join(',')
  return `postgres://${user}:${password}@${hosts}/${database}?${parameters}`
}

async function open (t: Test, connectionString: string, plugin: PgScopeOptions = {}): Promise<LoggedApp<object>> {
  const opened = await openLoggedApp<object>(connectionString, { plugin })
  t.teardown(() => opened.app.close())
  return opened
}

const places = ({ app }: LoggedApp<object>, count = 3): Promise<string[]> =>
  Promise.all(Array.from({ length: count }, () =>
    app.db.scope(async (session) => (await session.query(where)).rows[0].name as string)))

const closed = { port: 9 }
const name = ({ port }: { port: number }): string => `127.0.0.1:${port}`

for (const strategy of strategies) {
  t.test(`${strategy}: each kind of server is found, wherever it stands in the list`, async (t) => {
    for (const [wants, found] of [
      ['primary', 'primary'], ['read-write', 'primary'], ['standby', 'standby_1'], ['read-only', 'standby_1'],
      ['prefer-standby', 'standby_1']
    ]) {
      for (const servers of [[primary, replica], [replica, closed, primary]]) {
        const opened = await open(t, url(servers, `target_session_attrs=${wants}`), { pool: { strategy, min: 2 } })
        t.same(new Set(await places(opened)), new Set([found]), `${wants}: ${servers.length}`)
        await opened.app.close()
      }
    }
    const first = await open(t, url([closed, replica, primary]), { pool: { strategy } })
    t.same(new Set(await places(first)), new Set(['standby_1']), 'any: the first that can be reached')
    t.match(first.app.db.stats().hosts, [{ name: name(closed), connections: 0, problem: /ECONNREFUSED/ }, { name: name(replica), problem: null }, { name: name(primary), connections: 0, problem: null }])
    const last = await open(t, url([primary, closed], 'target_session_attrs=prefer-standby'), { pool: { strategy } })
    t.same(new Set(await places(last)), new Set(['primary']), 'prefer-standby without a standby')
  })
}

t.test('at random, connections spread over the hosts', async (t) => {
  const opened = await open(t, url([primary, replica], 'load_balance_hosts=random'), { pool: { strategy: 'null' } })
  t.same(new Set(await places(opened, 30)), new Set(['primary', 'standby_1']))
})

t.test('what the server announces at login is enough: a connection costs no round trip more', async (t) => {
  const proxy = await startPgProxy(t, primary)
  const count = async (parameters: string): Promise<number> => {
    const opened = await open(t, url([proxy], parameters), { pool: { strategy: 'null' } })
    await places(opened)
    proxy.reset()
    await places(opened)
    await opened.app.close()
    return proxy.roundTrips
  }
  t.equal(await count('target_session_attrs=read-write'), await count(''))
})

t.test('the error says what was tried, and why none was used', async (t) => {
  const refused = async (connectionString: string): Promise<string> => {
    const error = await open(t, connectionString).then(() => null, (error) => error)
    t.match(error, { code: 'FST_PG_SCOPE_UNREACHABLE', statusCode: 503 })
    t.notMatch(error.details, password)
    return error.details
  }
  const details = await refused(url([closed, replica], 'target_session_attrs=primary'))
  t.ok(details.includes(`on ${name(closed)}, ${name(replica)} as user`), details)
  t.match(details, new RegExp(`\\(127\\.0\\.0\\.1:9: connect ECONNREFUSED.*; ${name(replica)}: it is a standby\\)`))
  t.match(await refused(url([primary], 'target_session_attrs=standby')), /it is a primary/)
  const wrong = await open(t, url([replica, primary], 'target_session_attrs=primary').replace(password, 'wrong')).then(() => null, (error) => error)
  t.match(wrong, { code: 'FST_PG_SCOPE_LOGIN_REFUSED' }, 'a login is refused everywhere: no further host is tried')
  t.notMatch(wrong.details, name(primary) + ':')
})

t.test('a host that does not answer delays a connection, and does not stop it', async (t) => {
  const silent: PgProxy = await startPgProxy(t, primary)
  silent.pause()
  const opened = await open(t, url([silent, replica, primary], 'target_session_attrs=primary'), { pool: { acquireTimeout: 6000 } })
  t.same(new Set(await places(opened)), new Set(['primary']))
})

t.test('lease(), listen(), lock(), ping(), CancelRequests and a sandbox find the server, too', async (t) => {
  const { app } = await open(t, url([closed, replica, primary], 'target_session_attrs=primary'))
  t.equal(await app.db.lease(async (client) => (await client.query(where)).rows[0].name), 'primary')
  t.type(await app.db.ping(5000), 'number')
  const heard = new Promise((resolve) => { app.db.listen('news', resolve).then(() => app.db.notify('news', 'text')) })
  t.equal(await heard, 'text')
  t.equal(await app.db.lock('key', () => 'locked'), 'locked')
  await t.rejects(app.db.scope((session) => session.query('SELECT pg_sleep(60)'), { signal: AbortSignal.timeout(500) }), { code: 'FST_PG_SCOPE_CANCELED' })
  const sandbox = await openSandbox(app)
  t.match(await app.db.query(where), { rows: [{ name: 'primary' }] })
  await sandbox.close()
  t.match(await app.db.query(where), { rows: [{ name: 'primary' }] })
})

t.test('a replica with several hosts stands for as many replicas', async (t) => {
  const { app } = await open(t, url([primary]), { replicas: [url([replica, closed], 'target_session_attrs=standby')] })
  t.match(app.db.stats().replicas, [{ name: `${name(replica)}/${database}`, inUse: true }, { name: `${name(closed)}/${database}`, inUse: false }])
  t.equal(await app.db.scope(async (session) => (await session.query(where)).rows[0].name, { readOnly: true }), 'standby_1')
})

t.test('if no host can be reached and none is awaited, a session is rejected as with one host', async (t) => {
  for (const wants of ['any', 'standby']) {
    const { app } = await open(t, url([closed, { port: 11 }], `target_session_attrs=${wants}`), { startupCheck: false, pool: { acquireTimeout: 100_000 } })
    const began = performance.now()
    await t.rejects(Promise.all([app.db.query('SELECT 1'), app.db.query('SELECT 1')]), { code: 'FST_PG_SCOPE_UNREACHABLE' })
    await t.rejects(app.db.query('SELECT 1'), { code: 'FST_PG_SCOPE_UNREACHABLE' })
    t.ok(performance.now() - began < 60_000, 'without waiting for acquireTimeout')
  }
})

for (const strategy of strategies) {
  t.test(`${strategy}: if no host can be reached, all sessions that wait are rejected, and none waits for acquireTimeout`, async (t) => {
    const { app } = await open(t, url([closed, { port: 11 }], 'target_session_attrs=any'), {
      startupCheck: false, pool: { strategy, max: 1, acquireTimeout: 3000 }
    })
    const codes = await Promise.all(Array.from({ length: 30 }, () => app.db.query('SELECT 1').catch(({ code }) => code)))
    t.same(new Set(codes), new Set(['FST_PG_SCOPE_UNREACHABLE']))
    t.equal(app.db.stats().counters.timedOut, 0)
  })

  t.test(`${strategy}: a login that is reset before any answer came is tried once more, on one host or several`, async (t) => {
    for (const count of [1, 2]) {
      let resets = 0
      const servers = []
      for (let i = 0; i < count; i++) {
        servers.push(await startTcpProxy(t, { host: '127.0.0.1', port: primary.port }, (client, target) => {
          if (resets > 0) {
            resets--
            client.once('data', () => client.resetAndDestroy())
          } else {
            client.pipe(target)
            target.pipe(client)
          }
        }))
      }
      const { app } = await open(t, url(servers), { pool: { strategy, max: 1, acquireTimeout: 2000 } })
      await app.db.reset()
      resets = 1
      t.equal((await app.db.query('SELECT 1 AS one')).rows[0].one, 1, `${count} hosts`)
      await app.db.reset()
      resets = 10
      await t.rejects(app.db.query('SELECT 1'), { code: 'FST_PG_SCOPE_UNREACHABLE' }, `${count} hosts: not for ever`)
      resets = 0
      t.equal((await app.db.query('SELECT 1 AS one')).rows[0].one, 1)
    }
  })
}

t.test('a transaction that is read-only by choice says nothing about its server', async (t) => {
  const { app } = await open(t, url([primary], 'target_session_attrs=primary'), { pool: { strategy: 'queue', max: 1 } })
  await app.db.query('SELECT 1')
  const { opened } = app.db.stats().counters
  const refused = { code: '25006' }
  const write = 'CREATE TABLE never (n int)'
  await t.rejects(app.db.scope((session) => session.query(write), { readOnly: true }), refused)
  await t.rejects(app.db.scope((session) => session.query(write), { readOnly: true, mode: 'autocommit' }), refused)
  await t.rejects(app.db.scope((session) => session.query(write), { settings: { transaction_read_only: 'on' } }), refused)
  await t.rejects(app.db.scope(async (session) => {
    await session.query('SET TRANSACTION READ ONLY')
    await session.query(write)
  }), refused)
  await t.rejects(app.db.scope(async (session) => {
    await session.query("SELECT set_config('transaction_read_only', 'on', true)")
    await session.query(write)
  }), refused)
  t.equal(app.db.stats().counters.opened, opened, 'its connection is kept')
  await app.db.query('SELECT 1')
  t.equal(app.db.stats().counters.opened, opened)
})

t.test('prefer-standby: a host that fails is tried once', async (t) => {
  let connections = 0
  const failing = createServer((socket) => {
    connections++
    socket.destroy()
  }).listen(0, '127.0.0.1')
  await once(failing, 'listening')
  t.teardown(() => failing.close())
  const { port } = failing.address() as AddressInfo
  const { app } = await open(t, url([{ port }, primary], 'target_session_attrs=prefer-standby'), { startupCheck: false })
  t.equal(await app.db.lock('key', () => 'locked'), 'locked')
  t.equal(connections, 1)
})

t.test('cloneDatabase() copies on the primary, and the doctor looks at each host', async (t) => {
  await using clone = await cloneDatabase(url([closed, replica, primary], 'target_session_attrs=primary'), { template: 'template1' })
  await replica.caughtUp()
  const { app } = await open(t, clone.connectionString)
  t.same(await places({ app } as LoggedApp<object>, 1), ['primary'])

  const options = await resolveByPlugin({ connectionString: url([closed, primary]) })
  const found = await gatherEach({ options, source: 'the test', bootFailure: null, admin: null })
  t.match(found, [
    { target: { port: closed.port }, connection: { failure: { kind: 'unreachable' } }, server: null },
    { target: { port: primary.port }, connection: { failure: null }, server: { maxConnections: 100 } }
  ])
})
