import fastifyEnv from '@fastify/env'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import { withEnvironment } from '../../../lib/config/environment.ts'
import pgScope from '../../../lib/index.ts'
import type { PgScopeOptions } from '../../../types/options.ts'

/** What comes of options in an environment that has these variables, and no others of ours. */
async function complete (
  t: Test, variables: Record<string, string>, given: PgScopeOptions = {}
): Promise<PgScopeOptions> {
  setEnvironment(t, variables)
  const app = Fastify()
  t.teardown(() => app.close())
  let options: PgScopeOptions | undefined
  app.register(async (instance) => { options = await withEnvironment(instance, given) })
  await app.ready()
  return options!
}

function setEnvironment (t: Test, variables: Record<string, string>): void {
  const before = { ...process.env }
  t.teardown(() => { process.env = before })
  for (const name of Object.keys(process.env)) if (name.startsWith('PG') || name === 'DATABASE_URL') delete process.env[name]
  Object.assign(process.env, variables)
}

t.test('DATABASE_URL alone is enough', async (t) => {
  t.same(await complete(t, { DATABASE_URL: 'postgres://app@db/shop' }), { connectionString: 'postgres://app@db/shop' })
})

t.test('PGHOST and its kin are read, with their types', async (t) => {
  t.same(await complete(t, { PGHOST: 'db', PGPORT: '6432', PGUSER: 'app', PGPASSWORD: '007', PGDATABASE: 'shop' }),
    { host: 'db', port: 6432, user: 'app', password: '007', database: 'shop' })
})

t.test('every PG_SCOPE_ variable stands for its option', async (t) => {
  t.same(await complete(t, {
    PGHOST: 'db',
    PG_SCOPE_APPLICATION_NAME: 'shop',
    PG_SCOPE_POOL_MAX: '7',
    PG_SCOPE_POOL_MIN: '2',
    PG_SCOPE_ACQUIRE_TIMEOUT: '100',
    PG_SCOPE_MAX_WAITING: '0',
    PG_SCOPE_IDLE_TIMEOUT: '101',
    PG_SCOPE_MAX_LIFETIME: '102',
    PG_SCOPE_MAX_USES: '9',
    PG_SCOPE_STATEMENT_TIMEOUT: '103',
    PG_SCOPE_LOCK_TIMEOUT: '104',
    PG_SCOPE_IDLE_IN_TRANSACTION_TIMEOUT: '105',
    PG_SCOPE_TRANSACTION_TIMEOUT: '106',
    PG_SCOPE_CLOSE_TIMEOUT: '107',
    PG_SCOPE_LEAK_DETECTION_THRESHOLD: '108',
    PG_SCOPE_SLOW_STATEMENT_THRESHOLD: '109',
    PG_SCOPE_SLOW_TRANSACTION_THRESHOLD: '110'
  }), {
    host: 'db',
    applicationName: 'shop',
    pool: { max: 7, min: 2, acquireTimeout: 100, maxWaiting: 0, idleTimeout: 101, maxLifetime: 102, maxUses: 9 },
    statementTimeout: 103,
    lockTimeout: 104,
    idleInTransactionTimeout: 105,
    transactionTimeout: 106,
    closeTimeout: 107,
    leakDetectionThreshold: 108,
    slowStatementThreshold: 109,
    slowTransactionThreshold: 110
  })
})

t.test('what stands in the options wins, one by one', async (t) => {
  const variables = { DATABASE_URL: 'postgres://app@db/shop', PGPASSWORD: 'env', PG_SCOPE_POOL_MAX: '7', PG_SCOPE_POOL_MIN: '2', PG_SCOPE_CLOSE_TIMEOUT: '107' }
  const given = { password: 'own', pool: { max: 5, min: undefined }, closeTimeout: 0 }
  t.same(await complete(t, variables, given), { connectionString: 'postgres://app@db/shop', password: 'own', pool: { max: 5, min: 2 }, closeTimeout: 0 })
  t.same(given, { password: 'own', pool: { max: 5, min: undefined }, closeTimeout: 0 }, 'and the options that were handed over are not changed')
})

t.test('with a connection in the options the environment is not asked', async (t) => {
  for (const given of [{ connectionString: 'postgres://a/b' }, { host: 'a' }, { port: 1 }, { user: 'a' }, { database: 'a' }]) {
    t.equal(await complete(t, { DATABASE_URL: 'postgres://app@db/shop', PGPORT: 'many', PG_SCOPE_POOL_MAX: 'many' }, given), given)
  }
})

t.test('an empty variable counts as none', async (t) => {
  t.same(await complete(t, { DATABASE_URL: '', PGHOST: 'db', PGPORT: '', PG_SCOPE_POOL_MAX: '' }), { host: 'db' })
})

t.test('nothing given at all: the error says what to set', async (t) => {
  await t.rejects(complete(t, {}), { code: 'FST_PG_SCOPE_OPTIONS', details: /`connectionString` .* DATABASE_URL/ })
  await t.rejects(complete(t, { PGPASSWORD: 's3cret', PG_SCOPE_POOL_MAX: '3' }), { code: 'FST_PG_SCOPE_OPTIONS', details: /^No connection is given/ })
})

for (const [name, value] of [['PGPORT', 'many'], ['PG_SCOPE_POOL_MAX', '1.5'], ['PG_SCOPE_ACQUIRE_TIMEOUT', '5s'], ['PG_SCOPE_CLOSE_TIMEOUT', 'null']] as const) {
  t.test(`${name}=${value} is refused, and the variable is named`, async (t) => {
    const error = await complete(t, { DATABASE_URL: 'postgres://app:s3cret@db/shop', PGPASSWORD: 's3cret', [name]: value }).catch((error) => error)
    t.match(error, { code: 'FST_PG_SCOPE_OPTIONS', details: new RegExp(`${name}.*integer`) })
    t.notMatch(`${error.message} ${error.details}`, /s3cret/)
  })
}

t.test('a variable of the right type and an impossible value stops the boot like an option', async (t) => {
  for (const [name, value, message] of [
    ['PG_SCOPE_POOL_MAX', '-1', /^`pool\.max` must be an integer ≥ 1, got -1/],
    ['PG_SCOPE_POOL_MIN', '11', /^`pool\.min` must be ≤ `pool\.max` \(10\), got 11/],
    ['PGPORT', '70000', /^`port` must .* got 70000/],
    ['DATABASE_URL', 'mysql://app:s3cret@db/shop', /^`connectionString` must be a URL/]
  ] as const) {
    setEnvironment(t, { PGHOST: 'db', [name]: value })
    const app = Fastify()
    t.teardown(() => app.close())
    app.register(pgScope)
    const error = await app.ready().then(() => null, (error) => error)
    t.match(error, { code: 'FST_PG_SCOPE_OPTIONS', details: message })
    t.notMatch(`${error.message} ${error.details}`, /s3cret/)
  }
})

t.test('the user\'s own @fastify/env stays unharmed, whichever comes first', async (t) => {
  setEnvironment(t, { DATABASE_URL: 'postgres://app@db/shop', SHOP_NAME: 'Corner' })
  const schema = { type: 'object', properties: { SHOP_NAME: { type: 'string' } } }
  for (const order of ['before', 'after']) {
    const app = Fastify()
    t.teardown(() => app.close())
    if (order === 'before') app.register(fastifyEnv, { schema })
    app.register(pgScope, { startupCheck: false })
    if (order === 'after') app.register(fastifyEnv, { schema })
    app.get('/', (request) => (request as unknown as { getEnvs (): object }).getEnvs())
    await app.ready()
    t.match((app as unknown as { config: object }).config, { SHOP_NAME: 'Corner' })
    const envs = (await app.inject('/')).json()
    t.equal(envs.SHOP_NAME, 'Corner')
    t.notOk('DATABASE_URL' in envs, 'our variables are not theirs')
    t.notOk(app.hasDecorator('pgScopeEnv'))
  }
})
