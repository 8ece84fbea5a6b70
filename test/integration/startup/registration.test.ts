import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import pgScope, { type Engine, type PgScopeOptions, type Session } from '../../../lib/index.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'

const db = await startTestPostgres(t)
const { connectionString } = db

function setUp (t: Test): FastifyInstance {
  const app = Fastify()
  t.teardown(() => app.close())
  return app
}

async function bootError (app: FastifyInstance): Promise<any> {
  return app.ready().then(() => { throw new Error('the app has booted') }, (error) => error)
}

const reporting = (holder: object): any => (holder as { reporting: unknown }).reporting

t.test('a second registration with the same name fails the boot and says how to name it', async (t) => {
  const app = setUp(t)
  app.register(pgScope, { connectionString })
  app.register(pgScope, { connectionString })
  t.match(await bootError(app), { code: 'FST_PG_SCOPE_DECORATOR_TAKEN', message: /^The decorator `db` already exists on this app.*\{ decorator: 'reporting' \}/ })
})

t.test('a second registration inside of a plugin, where the first one is visible, fails the boot as well', async (t) => {
  const app = setUp(t)
  app.register(pgScope, { connectionString })
  app.register(async (inner) => { await inner.register(pgScope, { connectionString }) })
  t.match(await bootError(app), { code: 'FST_PG_SCOPE_DECORATOR_TAKEN' })
})

t.test('a name that the user decorated app or request with is taken', async (t) => {
  const decorations: ((app: FastifyInstance) => unknown)[] = [
    (app) => app.decorate('db' as never, 'mine' as never),
    (app) => app.decorateRequest('db' as never, null as never)
  ]
  for (const decorate of decorations) {
    const app = setUp(t)
    decorate(app)
    app.register(pgScope, { connectionString })
    t.match(await bootError(app), { code: 'FST_PG_SCOPE_DECORATOR_TAKEN', message: /^The decorator `db` already exists/ })
  }
})

for (const name of ['log', 'server', 'inject', 'query', 'body', 'params', 'id', 'raw', 'headers', 'ip', 'constructor']) {
  t.test(`"${name}" belongs to Fastify, and is taken`, async (t) => {
    const app = setUp(t)
    app.register(pgScope, { connectionString, decorator: name })
    t.match(await bootError(app), { code: 'FST_PG_SCOPE_DECORATOR_TAKEN', message: new RegExp(`^The decorator \`${name}\` already exists`) })
  })
}

t.test('a second engine under another name has its own database, sessions and route options', async (t) => {
  const second = await db.createDatabase()
  const app = setUp(t)
  app.register(pgScope, { connectionString })
  app.register(pgScope, { connectionString: second, decorator: 'reporting' })
  await app.register(async (app) => {
    const where = 'SELECT current_database() AS name, current_setting(\'transaction_read_only\') AS read_only, current_setting(\'statement_timeout\') AS timeout'
    app.get('/', { config: { db: { statementTimeout: 1000 }, reporting: { readOnly: true } } as object }, async (request) => {
      const [main, other] = await Promise.all(
        [request.db, reporting(request) as Session].map((session) => session.query(where))
      )
      return [main!.rows[0], other!.rows[0]]
    })
  })
  await app.ready()
  t.same((await app.inject('/')).json(), [
    { name: 'postgres', read_only: 'off', timeout: '1s' },
    { name: new URL(second).pathname.slice(1), read_only: 'on', timeout: '0' }
  ])
  const engine: Engine = reporting(app)
  t.not(engine, app.db)
  t.same((await engine.query('SELECT current_database() AS name')).rows, [{ name: new URL(second).pathname.slice(1) }])
  t.match(app.db.stats().counters, { acquired: 1, committed: 1 })
})

t.test('two plugins that do not see each other may each have an engine of the same name', async (t) => {
  const app = setUp(t)
  for (const path of ['/a', '/b']) {
    app.register(async (inner) => {
      await inner.register(pgScope, { connectionString })
      inner.get(path, async (request) => (await request.db.query('SELECT $1::text AS path', [path])).rows[0])
    })
  }
  t.same((await app.inject('/a')).json(), { path: '/a' })
  t.same((await app.inject('/b')).json(), { path: '/b' })
  t.notOk(app.hasDecorator('db'))
})

t.test('what is wrong with the options stops the boot before anything connects', async (t) => {
  for (const [options, message] of [
    [{ connectionString, pool: { max: -1 } }, /^`pool\.max` must be an integer ≥ 1, got -1/],
    [{ connectionString, statement_timeout: 5 }, /Did you mean `statementTimeout`\?/],
    [{ connectionString: 'postgres://app:s3cret@:port/shop' }, /^`connectionString` must be a URL/]
  ] as [PgScopeOptions, RegExp][]) {
    const app = setUp(t)
    app.register(pgScope, options)
    const error = await bootError(app)
    t.match(error, { code: 'FST_PG_SCOPE_OPTIONS', message })
    t.notMatch(error.message, /s3cret/)
  }
  t.same(await db.activity(), [])
})

const senseless: [string, object, RegExp][] = [
  ['an unknown one', { readonly: true }, /^GET \/x: `config\.db\.readonly` is not an option\. Did you mean `readOnly`\?/],
  ['one that is for the plugin', { pool: { max: 2 } }, /^GET \/x: `config\.db\.pool` is not an option/],
  ['a value of the wrong type', { statementTimeout: '5s' }, /^GET \/x: `config\.db\.statementTimeout` must be an integer ≥ 0 \(milliseconds\), got "5s"/],
  ['deferrable without serializable', { deferrable: true }, /^GET \/x: `config\.db\.deferrable` has no effect without/],
  ['commitIf in mode autocommit', { mode: 'autocommit', commitIf: () => true }, /^GET \/x: `config\.db\.commitIf` has no effect/],
  ['no object', true as never, /^GET \/x: `config\.db` must be a plain object, got true/]
]

for (const [name, config, message] of senseless) {
  t.test(`route options that make no sense (${name}) are refused where the route is declared`, async (t) => {
    const app = setUp(t)
    await app.register(pgScope, { connectionString })
    t.throws(() => app.get('/x', { config: { db: config } as object }, async () => 'x'), { code: 'FST_PG_SCOPE_OPTIONS', message })
  })
}

t.test('route options of a route inside of a plugin stop the boot', async (t) => {
  const app = setUp(t)
  app.register(pgScope, { connectionString })
  app.register(async (app) => { app.get('/x', { config: { db: { isolation: 'snapshot' } } as object }, async () => 'x') })
  t.match(await bootError(app), { code: 'FST_PG_SCOPE_OPTIONS', message: /^GET \/x: `config\.db\.isolation` must be / })
})

t.test('a query that is no statement is refused with what came, and never reaches the server', async (t) => {
  const app = setUp(t)
  await app.register(pgScope, { connectionString })
  const wrong: [unknown[], RegExp][] = [
    [[], /the text must be a string, got undefined/],
    [[null], /got null/],
    [[42], /got a number/],
    [[['SELECT 1']], /got undefined|got an array/],
    [[{ sql: 'SELECT 1' }], /unknown field `sql`/],
    [['SELECT $1', 'value'], /`values` must be an array, got a string/],
    [['SELECT \0'], /zero byte/]
  ]
  for (const [args, message] of wrong) {
    for (const target of [app.db, app.db.session()]) {
      await t.rejects(target.query(...args as [string]), { code: 'FST_PG_SCOPE_QUERY_INVALID', statusCode: 500, details: message })
    }
  }
  for (const name of ['scope', 'lease'] as const) await t.rejects(app.db[name]('SELECT 1' as never), { code: 'FST_PG_SCOPE_QUERY_INVALID', details: new RegExp(`^\`${name}\\(fn\\)\`: \`fn\` must be a function, got a string`) })
  await t.rejects(app.db.scope(async () => {}, { pool: 1 } as never), { code: 'FST_PG_SCOPE_OPTIONS', details: /`pool` is not an option/ })
  t.equal(app.db.stats().counters.opened, 0)
})

t.test('in a request a query that is no statement is a 500 that says so, and the next request is served', async (t) => {
  const app = setUp(t)
  await app.register(pgScope, { connectionString, pool: { max: 1 } })
  app.get('/bad', async (request) => request.db.query({ sql: 'SELECT 1' } as never))
  app.get('/good', async (request) => (await request.db.query('SELECT 1 AS one')).rows[0])
  const bad = await app.inject('/bad')
  t.equal(bad.statusCode, 500)
  t.match(bad.json(), { code: 'FST_PG_SCOPE_QUERY_INVALID' })
  t.same((await app.inject('/good')).json(), { one: 1 })
})
