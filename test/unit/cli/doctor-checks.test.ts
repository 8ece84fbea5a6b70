import t from 'tap'
import type { Facts } from '../../../lib/cli/doctor/facts.ts'
import { inWords } from '../../../lib/cli/doctor/duration.ts'
import { judge } from '../../../lib/cli/doctor/judge.ts'
import { isLocalHost, networkOf } from '../../../lib/cli/doctor/network.ts'
import { withoutPasswords } from '../../../lib/cli/doctor/ask.ts'
import { isOlder } from '../../../lib/cli/doctor/versions.ts'
import { app, directFacts, pooledFacts, server } from './healthy-facts.ts'

const found = (facts: Facts, processes = 1): string[] => judge(facts, processes).map(({ severity, id }) => `${severity} ${id}`)
const day = 86_400_000

t.test('a healthy app has nothing to report', async (t) => {
  t.same(found(directFacts()), [])
  t.same(found(pooledFacts()), [])
  t.same(found(pooledFacts(), 2), [], 'as many sessions as server connections')
})

t.test('the sum of the connections: more than fits is an error, more than fits during a deployment a warning', async (t) => {
  for (const [processes, expected] of [[4, []], [5, ['warning max-connections']], [10, ['error max-connections']]] as const) {
    t.same(found(directFacts(), processes), expected, `${processes} processes`)
  }
  const [{ found: text, change }] = judge(directFacts(), 10) as [any]
  t.equal(text, '10 processes × pool.max 10 = 100 connections, and max_connections 100 less 3 reserved ones allows 97')
  t.same(change, { where: 'postgresql.conf', line: 'max_connections = 203, or pool: { max: 4 } in the plugin\'s options' })
  t.same(found(directFacts({ server: { ...server, roleLimit: 20, databaseLimit: 15 } })), ['warning database-connection-limit'])
  t.same(found(pooledFacts({ clientLimits: { max_user_client_connections: 5 } })), ['error max-user-client-connections'])
  t.same(found(pooledFacts({ config: { max_client_conn: '79' } }), 4), ['warning max-client-conn', 'note pool-size'])
})

t.test('the pools of PgBouncer against the server', async (t) => {
  t.same(found(pooledFacts({ allPools: { count: 6, size: 120 } })), ['warning pool-size-max-connections'], 'all of them together')
  t.same(found(pooledFacts({ poolSize: 98 })), ['error pool-size-max-connections'], 'one alone')
  t.same(found(pooledFacts({}, { server: { ...server, roleLimit: 10 } })), ['error role-connection-limit'])
  t.same(found(pooledFacts({ mode: 'session', poolSize: 5 })), ['error pool-size', 'warning pool-mode'], 'session mode shares nothing')
  t.same(found(directFacts({ server: { ...server, connections: { own: 10, others: 80 } } })), ['warning server-nearly-full'])
})

t.test('TLS: no encryption, an unverified certificate, one that expires', async (t) => {
  const tls = { ...directFacts().tls }
  const encrypted = { ...tls, protocol: 'TLSv1.3', wanted: true, network: 'public' } as const
  t.same(found(directFacts({ tls: { ...tls, network: 'public' } })), ['error tls'])
  t.same(found(directFacts({ tls: { ...tls, network: 'private' } })), ['note tls'])
  t.same(found(directFacts({ tls: encrypted })), [])
  t.same(found(directFacts({ tls: { ...encrypted, verified: false } })), ['warning tls-unverified'])
  t.match(judge(directFacts({ tls: { ...encrypted, verified: false, channelBinding: true } }), 1), [{ found: /channel binding is on, where/ }])
  t.same(found(directFacts({ tls: { ...encrypted, nameChecked: false } })), ['note tls-name'])
  t.same(found(directFacts({ tls: { ...encrypted, protocol: 'TLSv1.1' } })), ['warning tls-version'])
  const { now } = directFacts()
  for (const [days, expected] of [[40, []], [29, ['warning tls-certificate']], [-1, ['error tls-certificate']]] as const) {
    t.same(found(directFacts({ tls: { ...encrypted, expires: now + days * day } })), expected, `${days} days`)
  }
  t.match(judge(directFacts({ tls: { ...encrypted, expires: now + 5 * day } }), 1), [{ found: /expires on 2026-06-06$/, why: /^In 5 days/ }])
})

t.test('the way between PgBouncer and PostgreSQL', async (t) => {
  t.same(found(pooledFacts({ serverHost: 'db.example.org' })), ['warning server-tls'], 'without TLS')
  const encrypted = { server: { ...server, encrypted: true } }
  t.same(found(pooledFacts({ serverHost: 'db.example.org' }, encrypted)), ['note server-tls'], 'unverified')
  t.same(found(pooledFacts({ serverHost: 'db.example.org', config: { server_tls_sslmode: 'verify-full' } }, encrypted)), [])
  t.same(found(pooledFacts({ serverHost: null })), [], 'a Unix domain socket')
  for (const [type, severity] of [['any', 'error'], ['trust', 'error'], ['plain', 'warning'], ['md5', 'note']]) {
    t.same(found(pooledFacts({ config: { auth_type: type! } })), [`${severity} auth-type`])
  }
})

t.test('versions of PostgreSQL: the end of support, and minor versions', async (t) => {
  const on = (version: number, date: string): string[] =>
    found(directFacts({ server: { ...server, version }, now: Date.parse(date) }))
  t.same(on(180004, '2026-06-01'), [])
  t.same(on(180003, '2026-06-01'), ['warning server-minor-version'])
  t.same(on(140023, '2026-04-01'), [], 'more than half a year')
  t.same(on(140023, '2026-06-01'), ['note server-end-of-life'])
  t.same(on(140023, '2026-11-13'), ['warning server-end-of-life'])
  t.same(on(130000, '2026-06-01'), ['warning server-end-of-life', 'warning server-minor-version'])
  t.same(on(90624, '2026-06-01'), ['warning server-end-of-life'])
  t.same(on(190000, '2026-06-01'), [], 'newer than what this package knows')
})

t.test('versions of PgBouncer: each flaw where it matters', async (t) => {
  const texts = (version: string, config: Record<string, string> = {}): string =>
    judge(pooledFacts({ version, config }), 1).filter(({ id }) => id === 'pgbouncer-version').map(({ found }) => found).join()
  t.equal(texts('1.26.1'), '')
  t.match(texts('1.26.0'), /CVE-2026-107350/)
  t.equal(texts('1.26.0', { auth_type: 'cert' }), '')
  t.match(texts('1.26.0', { auth_type: 'cert', ignore_startup_parameters: 'extra_float_digits' }), /CVE-2026-107349/)
  t.equal(texts('1.26.0', { auth_type: 'cert', ignore_startup_parameters: 'extra_float_digits, options' }), '')
  t.match(texts('1.24.0', { auth_user: 'pgbouncer' }), /CVE-2025-2291/)
  t.notMatch(texts('1.24.0'), /CVE-2025-2291/)
  t.match(texts('1.18.0'), /prepared statements[^]*CancelRequest/)
  const unreadable = directFacts({ pooler: { kind: 'pgbouncer', version: '1.26.0', mode: 'transaction', maxPreparedStatements: 1000, announced: true } })
  t.same(found(unreadable), ['error pgbouncer-version'], 'reported where the configuration cannot be read')
})

t.test('sessions that are idle in transaction: from five seconds on, five by name', async (t) => {
  const session = { pid: 7, user: 'jobs', applicationName: '', address: null, idle: 200, open: 300, lastCommand: 'UPDATE', aborted: true }
  const activity = { idleInTransaction: [session], preparedTransactions: { count: 0, oldest: 0 } }
  t.match(judge(directFacts({ activity }), 1), [{
    id: 'idle-in-transaction',
    found: '1 session is idle in transaction: pid 7 (no application_name, user jobs, Unix socket) for 3 min after UPDATE, open for 5 min, aborted'
  }])
  t.same(found(directFacts({ activity: { ...activity, idleInTransaction: [{ ...session, idle: 4 }] } })), [])
  const many = { ...activity, idleInTransaction: Array.from({ length: 9 }, (_, pid) => ({ ...session, pid })) }
  t.match(judge(directFacts({ activity: many }), 1), [{ found: /^9 sessions are .*; and 4 more$/ }])
  const prepared = (oldest: number): Facts =>
    directFacts({ activity: { idleInTransaction: [], preparedTransactions: { count: 2, oldest } } })
  t.same([found(prepared(10)), found(prepared(400))], [['note prepared-transactions'], ['warning prepared-transactions']])
  t.same(found(pooledFacts({ waiting: { clients: 3, longest: 4 } })), ['warning clients-waiting'])
})

t.test('an application_name that is lost or cut off', async (t) => {
  const named = (sent: string, seen: string): string[] =>
    found(directFacts({ connection: { failure: null, applicationName: { sent, seen } } }))
  t.same(named('shop', ''), ['warning application-name'])
  t.same(named('shop', 'other'), ['warning application-name'])
  t.same(named('shop', 'shop - 10.0.0.7:4711'), [], 'PgBouncer\'s application_name_add_host')
  t.same(named('a'.repeat(70), 'a'.repeat(63)), ['note application-name'])
})

t.test('limits of time that contradict each other', async (t) => {
  const given = (options: Partial<typeof app>): string[] => found(directFacts({ app: { ...app, ...options } }))
  t.same(given({ lockTimeout: 5000, statementTimeout: 5000 }), ['note lock-timeout'])
  t.same(given({ transactionTimeout: 5000, statementTimeout: 5000 }), ['note transaction-timeout'])
  t.same(given({ statementTimeout: 5000, answerTimeout: 5000 }), ['warning answer-timeout'])
  t.same(given({ statementTimeout: 5000, answerTimeout: 0, lockTimeout: 0, transactionTimeout: 0 }), [], '0 is no limit')
  t.same(given({ keepAlive: false }), ['note keep-alive'])
  t.same(given({ maxLifetime: 0, strategy: 'null', pooler: 'none' }), ['note null-strategy'])
  const idle = { server: { ...server, timeouts: { idle_session_timeout: 60_000 } } }
  t.same(found(directFacts(idle)), [], 'longer than the pool keeps a connection')
  t.same(found(directFacts({ ...idle, app: { ...app, min: 1 } })), ['warning idle-session-timeout'])
  t.same(found(pooledFacts({}, idle)), ['warning idle-session-timeout'])
  t.same(found(pooledFacts({ config: { client_idle_timeout: '60' } })), [])
  t.same(found(pooledFacts({ config: { client_idle_timeout: '60' } }, { app: { ...app, idleTimeout: 0 } })), ['warning client-idle-timeout'])
  t.same(found(pooledFacts({ config: { idle_transaction_timeout: '120' } })), ['note idle-transaction-timeout'])
  t.same(found(pooledFacts({ config: { query_wait_timeout: '4' } })), ['note query-wait-timeout', 'note server-connect-timeout'])
  t.same(found(pooledFacts({ config: { server_lifetime: '1200' } })), ['note server-lifetime'])
  t.same(found(pooledFacts({ mode: 'session', config: { server_lifetime: '1200' } })), ['warning pool-mode', 'warning server-lifetime'])
})

t.test('prepared statements, where PgBouncer cannot tell that it follows them', async (t) => {
  const facts = pooledFacts({ version: '1.25.2' })
  const silent = { ...facts, pooler: { ...facts.pooler, announced: false } } as Facts
  const ids = (facts: Facts): string[] => found(facts).filter((id) => id.endsWith('prepared-statements'))
  t.same(ids(silent), ['note prepared-statements'])
  t.same(ids({ ...silent, app: { ...app, preparedStatements: true } }), [])
  t.same(ids({ ...silent, app: { ...app, preparedStatements: false } }), [])
})

t.test('what stands in between', async (t) => {
  t.same(found(directFacts({ pooler: { kind: 'unknown' } })), ['note pooler'])
  t.match(judge(directFacts({ pooler: { kind: 'other', name: 'Supavisor' } }), 1), [{ id: 'pooler', found: /^Supavisor stands/ }])
  t.same(found(pooledFacts({}, { app: { ...app, pooler: 'transaction' } })), [])
  t.same(found(pooledFacts({}, { app: { ...app, pooler: 'none' } })), ['error pooler-option'])
  for (const probes of [{ pipelining: 'no answer', cancel: 'works' }, { pipelining: 'fails', cancel: 'works' }] as const) {
    t.same(found(directFacts({ probes })), ['error pipelining'])
  }
  t.same(found(directFacts({ probes: { pipelining: 'works', cancel: 'no answer' } })), ['warning cancel'])
  const failure = { reason: 'no', kind: 'full' } as const
  t.same(found(directFacts({ server: null, activity: null, pooler: { kind: 'unreached' }, connection: { failure, applicationName: null }, bootFailure: 'no' })), ['error connection'])
})

t.test('durations, versions, networks and messages as a reader expects them', async (t) => {
  t.same([250, 1500, 10_000, 90_000, 1_800_000, 3_600_000].map(inWords), ['250 ms', '1.5 s', '10 s', '90 s', '30 min', '1 h'])
  t.same([isOlder('1.9', '1.10'), isOlder('1.21', '1.21.0'), isOlder('1.26.1', '1.26')], [true, false, false])
  t.same([undefined, '127.0.0.5', '::1', '10.1.2.3', '::ffff:192.168.0.1', 'fd00::1', '8.8.8.8', '2001:db8::1'].map(networkOf),
    ['local', 'local', 'local', 'private', 'private', 'private', 'public', 'public'])
  t.same(['localhost', '/run/postgresql', '127.0.0.1', 'db', '10.0.0.1'].map(isLocalHost), [true, true, true, false, false])
  t.equal(withoutPasswords('cannot read postgres://me:p:w@host/x and password=secret&x'), 'cannot read postgres://me:***@host/x and password=***&x')
})
