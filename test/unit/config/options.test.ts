import { inspect } from 'node:util'
import pg from 'pg'
import t from 'tap'
import { checkPluginOptions, resolveOptions } from '../../../lib/config/options.ts'
import { routeConfig, scopeConfig } from '../../../lib/config/session-config.ts'
import type { PgScopeError } from '../../../lib/errors.ts'
import type { PgScopeOptions } from '../../../types/options.ts'

const connectionString = 'postgres://app:s3cret@db.example:5432/shop'

/** What is said about options that must be refused. */
function refusal (options: unknown): string {
  try {
    checkPluginOptions(options as PgScopeOptions)
  } catch (error) {
    if ((error as { code?: string }).code !== 'FST_PG_SCOPE_OPTIONS') throw error
    return (error as PgScopeError).details
  }
  throw new Error(`${inspect(options)} was accepted`)
}

const wrong: [string, unknown, RegExp][] = [
  ['an unknown option', { colour: 'red' }, /^`colour` is not an option\. Options here: connectionString, directUrl, host, /],
  ['an unknown option of the pool', { pool: { size: 4 } }, /^`pool\.size` is not an option\. Options here: strategy, max, min, acquireTimeout/],
  ['another spelling', { statement_timeout: 10 }, /^`statement_timeout` is not an option\. Did you mean `statementTimeout`\?/],
  ['another capitalisation', { connectionstring: 'x' }, /Did you mean `connectionString`\?/],
  ['pg.Pool\'s max', { max: 4 }, /^`max` is not an option\. Did you mean `pool\.max`\?/],
  ['pg.Pool\'s connectionTimeoutMillis', { pool: { connectionTimeoutMillis: 4 } }, /^`pool\.connectionTimeoutMillis` .*Did you mean `pool\.acquireTimeout`\?/],
  ['no use of a connection', { pool: { maxUses: 0 } }, /`pool\.maxUses`.* integer ≥ 1/],
  ['pg.Pool\'s maxLifetimeSeconds', { maxLifetimeSeconds: 4 }, /Did you mean `pool\.maxLifetime`\?/],
  ['@fastify/postgres\' name', { name: 'reporting' }, /Did you mean `decorator`\?/],
  ['a name from Object.prototype', { toString: 1 }, /^`toString` is not an option\. Options/],
  ['a negative max', { pool: { max: -1 } }, /^`pool\.max` must be an integer ≥ 1, got -1\.$/],
  ['a max of 0', { pool: { max: 0 } }, /^`pool\.max` .* got 0/],
  ['half a connection', { pool: { max: 1.5 } }, /^`pool\.max` .* got 1\.5/],
  ['a max that is a string', { pool: { max: '10' } }, /^`pool\.max` .* got "10"/],
  ['NaN', { pool: { max: NaN } }, /^`pool\.max` .* got NaN/],
  ['Infinity', { pool: { maxWaiting: Infinity } }, /^`pool\.maxWaiting` .* got Infinity/],
  ['null', { pool: { max: null } }, /^`pool\.max` .* got null/],
  ['min above max', { pool: { min: 4, max: 3 } }, /^`pool\.min` must be ≤ `pool\.max` \(3\), got 4\.$/],
  ['min above the default of max', { pool: { min: 11 } }, /^`pool\.min` must be ≤ `pool\.max` \(10\), got 11\.$/],
  ['a pool that is a number', { pool: 10 }, /^`pool` must be a plain object, got 10\.$/],
  ['a pool that is an array', { pool: [] }, /^`pool` must be a plain object, got an array\.$/],
  ['an acquireTimeout of 0', { pool: { acquireTimeout: 0 } }, /^`pool\.acquireTimeout` must be an integer ≥ 1 \(milliseconds\), got 0\.$/],
  ['an acquireTimeout in words', { pool: { acquireTimeout: '5s' } }, /^`pool\.acquireTimeout` .* got "5s"/],
  ['a time longer than a timer can run', { closeTimeout: 2 ** 31 }, /^`closeTimeout` must be an integer ≤ 2147483647 \(milliseconds\), got 2147483648\.$/],
  ['a session state that does not exist', { sessionState: 'discard' }, /^`sessionState` must be 'reset' or 'keep', got "discard"\.$/],
  ['a strategy that does not exist', { pool: { strategy: 'lifo' } }, /^`pool\.strategy` must be 'queue' or 'null', got "lifo"\.$/],
  ['a port out of range', { host: 'h', port: 65536 }, /^`port` must be an integer from 1 to 65535, got 65536\.$/],
  ['a list of ports with a wrong one', { host: 'a,b', port: '5432,70000' }, /^`port` must be an integer from 1 to 65535, got "5432,70000"\.$/],
  ['one port that is a string', { host: 'a', port: '5432' }, /^`port` must be an integer from 1 to 65535, got "5432"\.$/],
  ['a target that does not exist', { targetSessionAttrs: 'master' }, /^`targetSessionAttrs` must be 'any', 'read-write', 'read-only', 'primary', 'standby' or 'prefer-standby', got "master"\.$/],
  ['a balance that does not exist', { loadBalanceHosts: true }, /^`loadBalanceHosts` must be 'disable' or 'random', got true\.$/],
  ['a replica that must be a primary', { replicas: ['postgres://a,b/?target_session_attrs=primary'] }, /^`replicas\[0\]`: the parameter `target_session_attrs` must not be 'primary'/],
  ['an empty host', { host: '' }, /^`host` must be a non-empty string, got an empty string\.$/],
  ['a decorator that is no name', { decorator: 'my-db' }, /^`decorator` must be a name such as 'db', got "my-db"\.$/],
  ['a mode that does not exist', { mode: 'auto' }, /^`mode` must be 'transaction' or 'autocommit', got "auto"\.$/],
  ['an isolation level that does not exist', { isolation: 'snapshot' }, /^`isolation` must be 'read uncommitted', 'read committed', 'repeatable read' or 'serializable', got "snapshot"\.$/],
  ['deferrable by itself', { deferrable: true }, /^`deferrable` .* `isolation: 'serializable'` and `readOnly: true`\.$/],
  ['commitOn in mode autocommit', { mode: 'autocommit', commitOn: 'response' }, /^`commitOn` has no effect in mode 'autocommit'/],
  ['one replica that is no list', { replicas: 'postgres://h/' }, /^`replicas` must be an array of non-empty strings or a function, got a string\.$/],
  ['a replica that is no URL', { replicas: ['h'] }, /^`replicas\[0\]` must be a URL such as postgres:.*, got another string\./],
  ['a parameter of a replica that has no effect', { replicas: ['postgres://h/', 'postgres://h/?max=1'] }, /^`replicas\[1\]`: the parameter `max` is not supported\./],
  ['a maxLag of 0', { maxLag: 0 }, /^`maxLag` must be an integer ≥ 1 \(milliseconds\), got 0\.$/],
  ['a secret that is too short', { readYourWrites: { secret: 'short' } }, /^`readYourWrites\.secret` must be a string of at least 16 characters, got a string\.$/],
  ['a cookie that is no name', { readYourWrites: { cookie: 'a b' } }, /^`readYourWrites\.cookie` must be the name of a cookie, got "a b"\.$/],
  ['an unknown part of readYourWrites', { readYourWrites: { key: 'x' } }, /^`readYourWrites\.key` is not an option\. Options here: secret, cookie\.$/],
  ['a negative wait', { waitForReplica: -1 }, /^`waitForReplica` must be an integer ≥ 0 \(milliseconds\), got -1\.$/],
  ['a replica in words', { replica: 'never' }, /^`replica` must be true or false, got "never"\.$/],
  ['a fallback in words', { fallback: 'primary' }, /^`fallback` must be true or false, got "primary"\.$/],
  ['a retry of 0', { retry: 0 }, /^`retry` must be false or an integer ≥ 1 or a plain object, got 0\.$/],
  ['a retry that is true', { retry: true }, /^`retry` must be false or an integer ≥ 1 or a plain object, got true\.$/],
  ['a field of retry that does not exist', { retry: { times: 3 } }, /^`retry\.times` is not an option\. Options here: attempts, minDelay, maxDelay\.$/],
  ['no attempt', { retry: { attempts: 0 } }, /^`retry\.attempts` must be an integer ≥ 1, got 0\.$/],
  ['a shortest delay above the longest', { retry: { minDelay: 50, maxDelay: 10 } }, /^`retry\.minDelay` must be ≤ `retry\.maxDelay` \(10\), got 50\.$/],
  ['retry in mode autocommit', { mode: 'autocommit', retry: 3 }, /^`retry` has no effect in mode 'autocommit'/],
  ['retry with a COMMIT after the response', { commitOn: 'response', retry: 3 }, /^`retry` has no effect with `commitOn: 'response'`/],
  ['resolveCommits in words', { resolveCommits: 'yes' }, /^`resolveCommits` must be true or false, got "yes"\.$/],
  ['a setting with a bad name', { settings: { 'app.tenant; drop': 1 } }, /^`settings`: "app\.tenant; drop" is not the name of a setting/],
  ['a setting without a value', { settings: { 'app.tenant': null } }, /^`settings\.app\.tenant` must be a string, a finite number or a boolean, got null/],
  ['a role that is empty', { role: '' }, /^`role` must be a non-empty string or a function, got an empty string/],
  ['an onNotice that cannot be called', { onNotice: 'log' }, /^`onNotice` must be a function, got "log"/],
  ['a streamTimeout below 0', { streamTimeout: -1 }, /^`streamTimeout` must be an integer ≥ 0 \(milliseconds\), got -1/],
  ['startupCheck in words', { startupCheck: 'no' }, /^`startupCheck` must be true or false, got "no"\.$/],
  ['no object at all', 'postgres://localhost', /^`options` must be a plain object, got "postgres:\/\/localhost"/]
]

for (const [name, options, message] of wrong) {
  t.test(`${name} is refused, with what was expected and what came`, async (t) => {
    t.match(refusal(options), message)
  })
}

const malformed = ['localhost/shop', 'mysql://app:s3cret@db/shop', 'postgres://app:s3cret/t@db:port/shop', 'postgres://app:s3c#ret@db:5432:1/shop', 'postgres://app:s3cret@db:99999/shop', '5432', 'postgres://app:s3cret%ff@db/shop']
for (const url of malformed) {
  t.test(`the malformed URL ${url} is refused, and not shown: it may hold a password`, async (t) => {
    const message = refusal({ connectionString: url })
    t.match(message, /^`connectionString` must be a URL such as postgres:\/\//)
    t.match(message, /percent-encoded/, 'it says what is usually wrong')
    t.notMatch(message, /s3c/)
  })
}

t.test('a secret is never part of a message, whatever is wrong with it', async (t) => {
  for (const options of [{ connectionString: ['s3cret'] }, { password: ['s3cret'] }, { password: 53, host: 'h' }, { ssl: 's3cret' }, { settings: ['s3cret'] }, { settings: { 'app.key': ['s3cret'] } }]) {
    t.notMatch(refusal(options), /s3c|53/)
  }
})

t.test('every option in its right form is accepted', async (t) => {
  const full: PgScopeOptions = {
    connectionString,
    host: 'db.example',
    port: 5432,
    user: 'app',
    password: () => 's3cret',
    database: 'shop',
    ssl: { rejectUnauthorized: true },
    keepAlive: false,
    keepAliveInitialDelayMillis: 1000,
    decorator: '$reporting_2',
    applicationName: 'shop',
    pool: { strategy: 'queue', max: 3, min: 3, acquireTimeout: 1, maxWaiting: 0, idleTimeout: 0, maxLifetime: 0, maxUses: 1, prePing: true },
    mode: 'transaction',
    isolation: 'serializable',
    readOnly: true,
    deferrable: true,
    statementTimeout: 0,
    lockTimeout: 1,
    idleInTransactionTimeout: 2,
    transactionTimeout: 3,
    settings: { 'app.tenant': 7, search_path: 'shop' },
    role: () => 'clerk',
    commitOn: 'response',
    commitIf: () => true,
    onAbort: 'commit',
    streamTimeout: 0,
    closeTimeout: 0,
    onNotice: () => {},
    startupCheck: false
  }
  checkPluginOptions({ ...full, commitOn: 'send', retry: { attempts: 1, minDelay: 0, maxDelay: 0 } })
  checkPluginOptions(full)
  for (const url of ['postgresql://h/db', 'postgres://app:p%40ss@[::1]:5432/db?sslmode=disable', '/var/run/postgresql', 'socket:/tmp?db=shop']) checkPluginOptions({ connectionString: url })
  t.ok(resolveOptions(full))
})

t.test('an option that is undefined counts as not given', async (t) => {
  const options = {
    connectionString,
    decorator: undefined,
    statementTimeout: undefined,
    pool: { max: undefined, min: undefined },
    closeTimeout: undefined
  }
  checkPluginOptions(options)
  const resolved = resolveOptions(options)
  t.match(resolved, { decorator: 'db', closeTimeout: 10000, startupCheck: true, pool: { max: 10, min: 0 } })
  t.same(scopeConfig(resolved.defaults, {}).transaction.timeouts, { idle_in_transaction_session_timeout: '60000' })
})

t.test('the defaults are those of the documentation, and frozen', async (t) => {
  const { client, ...resolved } = resolveOptions({ connectionString })
  t.same(resolved, {
    decorator: 'db',
    pool: {
      min: 0,
      max: 10,
      acquireTimeout: 5000,
      maxWaiting: Infinity,
      idleTimeout: 30000,
      maxLifetime: 1800000,
      maxUses: Infinity,
      prePing: false,
      leakDetectionThreshold: 0
    },
    strategy: 'queue',
    pooler: 'auto',
    replicas: null,
    direct: null,
    resolveCommits: false,
    traceContext: null,
    slowStatementThreshold: 0,
    slowTransactionThreshold: 0,
    sessionState: 'reset',
    defaults: { idleInTransactionTimeout: 60000 },
    closeTimeout: 10000,
    startupCheck: true,
    exposeErrors: false
  })
  t.match(client, { keepAlive: true, host: 'db.example', port: 5432, user: 'app', database: 'shop', application_name: String })
  t.notOk('connectionString' in client, 'in pg it would win over the options')
  for (const each of [
    resolveOptions({ connectionString }), resolved.pool, resolved.defaults
  ]) t.ok(Object.isFrozen(each))
})

t.test('the options that were handed over are not changed', async (t) => {
  const options = Object.freeze({ connectionString, pool: Object.freeze({ max: 3 }) })
  checkPluginOptions(options)
  resolveOptions(options)
  t.same(options, { connectionString, pool: { max: 3 } })
})

t.test('a route: what it says itself wins, the rest comes from the app, and nonsense names the route', async (t) => {
  const defaults = { isolation: 'serializable', readOnly: true, deferrable: true, statementTimeout: 5, settings: { 'app.a': 1, 'app.b': 1 } } as const
  const unit = routeConfig(defaults, { statementTimeout: 9, settings: { 'app.b': 2 } }, 'GET /x: config.db.')
  t.same(unit.transaction.timeouts, { statement_timeout: '9' })
  t.same(unit.transaction.settings, { 'app.a': '1', 'app.b': '2' })
  t.equal(unit.transaction.begin, 'BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE')
  const path = 'GET /x: config.db.'
  t.throws(() => routeConfig(defaults, { readOnly: false }, path), { code: 'FST_PG_SCOPE_OPTIONS', details: /^GET \/x: `config\.db\.deferrable` / })
  t.throws(() => routeConfig({}, { pool: {} }, path), { code: 'FST_PG_SCOPE_OPTIONS', details: /^GET \/x: `config\.db\.pool` is not an option\./ })
  t.throws(() => routeConfig({}, { readonly: true }, path), { code: 'FST_PG_SCOPE_OPTIONS', details: /Did you mean `readOnly`\?/ })
  t.throws(() => routeConfig({}, 'serializable', path), { code: 'FST_PG_SCOPE_OPTIONS', details: /^GET \/x: `config\.db` must be a plain object, got "serializable"\.$/ })
  t.throws(() => routeConfig({}, null, path), { code: 'FST_PG_SCOPE_OPTIONS', details: /^GET \/x: `config\.db` must be a plain object, got null\.$/ })
  t.throws(() => routeConfig({}, { mode: 'autocommit', commitIf: () => true }, path), { code: 'FST_PG_SCOPE_OPTIONS', details: /^GET \/x: `config\.db\.commitIf` has no effect in mode 'autocommit'/ })
})

t.test('a scope: no request, so no option that needs one', async (t) => {
  const defaults = { commitOn: 'response', onAbort: 'commit', settings: () => ({}), role: () => 'clerk' } as const
  t.match(scopeConfig(defaults, { mode: 'autocommit' }), { mode: 'autocommit', commitOn: 'send', dynamic: null })
  for (const name of ['commitOn', 'commitIf', 'onAbort', 'pool']) {
    t.throws(() => scopeConfig({}, { [name]: undefined, [`${name}x`]: 1 } as never), { code: 'FST_PG_SCOPE_OPTIONS' })
    t.throws(() => scopeConfig({}, { [name]: 'commit' } as never), { code: 'FST_PG_SCOPE_OPTIONS', details: new RegExp(`^\`${name}\` is not an option`) })
  }
  t.throws(() => scopeConfig({}, { signal: {} as never }), { code: 'FST_PG_SCOPE_OPTIONS', details: /^`signal` must be an AbortSignal, got an object/ })
  t.throws(() => scopeConfig({}, { settings: (() => ({})) as never }), { code: 'FST_PG_SCOPE_OPTIONS', details: /^`settings` must be a plain object, got a function/ })
})

t.test('a certificate that a URL names must be there', async (t) => {
  const message = refusal({ connectionString: `${connectionString}?sslrootcert=/nowhere/ca.pem` })
  t.match(message, /^`connectionString`: .*\/nowhere\/ca\.pem/)
  t.notMatch(message, /s3c/)
})

for (const [name, meant] of Object.entries({
  statement_timeout: 'statementTimeout',
  lock_timeout: 'lockTimeout',
  idle_in_transaction_session_timeout: 'idleInTransactionTimeout',
  query_timeout: 'answerTimeout',
  schema: 'search_path',
  connection_limit: 'pool.max',
  pool_timeout: 'pool.acquireTimeout',
  connect_timeout: 'pool.acquireTimeout',
  pgbouncer: 'pooler',
  keepalives: 'keepAlive',
  colour: 'sslmode',
  constructor: 'sslmode',
  SSLMODE: 'sslmode'
})) {
  t.test(`the URL parameter ${name} stops the boot, and the error says what to use`, async (t) => {
    const message = refusal({ connectionString: `${connectionString}?${name}=s3c` })
    t.ok(message.startsWith(`\`connectionString\`: the parameter \`${name}\` is not supported. `), message)
    t.ok(message.includes(meant), message)
    t.notMatch(message, /s3c/)
    t.match(refusal({ connectionString: `socket:/tmp?db=shop&${name}=1` }), new RegExp(`\`${name}\` is not supported`))
  })
}

for (const parameter of ['sslmode=allow', 'sslmode=off', 'ssl=maybe', 'port=0', 'port=many', 'sslnegotiation=never', 'channel_binding=yes', 'target_session_attrs=master', 'load_balance_hosts=yes', 'port=1,x']) {
  t.test(`the URL parameter ${parameter} stops the boot: its value means nothing`, async (t) => {
    t.match(refusal({ connectionString: `${connectionString}?${parameter}` }), new RegExp(`^\`connectionString\`: the parameter \`${parameter.split('=')[0]}\` must be `))
  })
}

t.test('zero bytes, which add parameters to the startup packet, stop the boot wherever they come from', async (t) => {
  const zero = 'app%00options%00-c%20role=admin'
  for (const url of [
    `postgres://${zero}@db/shop`, `postgres://app:${zero}@db/shop`, 'postgres://app@db/shop%00x', `postgres://app@db/shop?application_name=${zero}`,
    `postgres://app@db/shop?options=${zero}`, `postgres://db/shop?user=${zero}`, `postgres://app@/shop?host=${zero}`,
    `postgres://app@db/shop?client_encoding=${zero}`, `postgres://app@db/shop?fallback_application_name=${zero}`, 'socket:/tmp?db=a%00b'
  ]) {
    t.match(refusal({ connectionString: url }), /^`connectionString`/, url)
    t.throws(() => resolveOptions({ connectionString: url }), { code: 'FST_PG_SCOPE_OPTIONS' }, url)
  }
  for (const name of ['host', 'user', 'password', 'database', 'applicationName']) {
    t.match(refusal({ host: 'db', [name]: 's3c\0x' }), new RegExp(`^\`${name}\` must be a string without zero bytes`))
  }
  const before = process.env
  t.teardown(() => { process.env = before })
  for (const name of ['PGAPPNAME', 'PGUSER', 'PGDATABASE', 'PGPASSWORD', 'PGOPTIONS', 'PGHOST']) {
    process.env = { [name]: 's3c\0x' } // what a real environment cannot hold
    t.throws(() => resolveOptions({ connectionString: 'postgres:///' }), { code: 'FST_PG_SCOPE_OPTIONS' }, name)
  }
})

t.test('a polluted Object.prototype says nothing about a connection', async (t) => {
  const polluted: Record<string, unknown> = { ssl: { rejectUnauthorized: false }, host: 'evil', port: 1, options: '-c role=admin', statement_timeout: 1, user: 'evil', password: 'evil' }
  t.teardown(() => {
    for (const name of Object.keys(polluted)) delete (Object.prototype as Record<string, unknown>)[name]
  })
  Object.assign(Object.prototype, polluted)
  const { client } = resolveOptions({ connectionString: 'postgres://app@db/shop' })
  const { connectionParameters } = new pg.Client(client) as unknown as { connectionParameters: Record<string, unknown> }
  for (const name of Object.keys(polluted)) delete (Object.prototype as Record<string, unknown>)[name]
  t.match(connectionParameters, { host: 'db', port: 5432, user: 'app', database: 'shop', ssl: false })
  for (const name of ['options', 'statement_timeout', 'password']) t.notOk(connectionParameters[name], name)
})

t.test('what register() and autoload pass to every plugin does not stop the boot', async (t) => {
  const options = { connectionString, prefix: '/v1', logLevel: 'warn', logSerializers: {} }
  checkPluginOptions(options as PgScopeOptions)
  t.notOk('prefix' in resolveOptions(options as PgScopeOptions).client)
})

t.test('retry: a number is the most runs; what cannot be repeated does without the default', async (t) => {
  const path = 'POST /x: config.db.'
  const defaults = { retry: 4 }
  t.same(routeConfig(defaults, {}, path).retry, { attempts: 4, minDelay: 20, maxDelay: 1000 })
  const few = { minDelay: 1, maxDelay: 5 }
  t.same(routeConfig({}, { retry: few }, path).retry, { attempts: 3, ...few })
  t.same(routeConfig({}, { retry: { minDelay: 5000 } }, path).retry, { attempts: 3, minDelay: 5000, maxDelay: 5000 })
  t.same(scopeConfig(defaults, {}).retry, { attempts: 4, minDelay: 20, maxDelay: 1000 })
  for (const own of [{ retry: false }, { retry: 1 }, { mode: 'autocommit' }, { commitOn: 'response' }] as const) {
    t.equal(routeConfig(defaults, own, path).retry, null)
  }
  t.throws(() => routeConfig(defaults, { mode: 'autocommit', retry: 2 }, path), { code: 'FST_PG_SCOPE_OPTIONS', details: /^POST \/x: `config\.db\.retry` has no effect/ })
  t.throws(() => scopeConfig(defaults, { mode: 'autocommit', retry: 2 }), { code: 'FST_PG_SCOPE_OPTIONS', details: /^`retry` has no effect/ })
})
