import Fastify from 'fastify'
import t, { type Test } from 'tap'
import pgScope, { type PgScopeOptions } from '../../../harness/plugin.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { onlyDirect, strategies } from '../../../harness/variant.ts'

const password = 'correct-horse-s3cret'
const db = await startTestPostgres(t, { password })
const { host, port, user, database } = db
// pg reads it where no password is given.
delete process.env.PGPASSWORD

function setUp (t: Test, options: PgScopeOptions) {
  const app = Fastify()
  t.teardown(() => app.close())
  app.register(pgScope, { host, port, user, database, ...options })
  app.get('/', async (request) => (await request.db.query('SELECT 1 AS one')).rows[0])
  return app
}

const refused = { code: 'FST_PG_SCOPE_LOGIN_REFUSED', statusCode: 503 }
const thrown = new Error('the vault is closed')
const unreachable = Object.assign(new Error('connect ECONNREFUSED 127.0.0.1:8200'), { code: 'ECONNREFUSED' })

const cases: [string, PgScopeOptions['password'], unknown?][] = [
  ['no password', undefined],
  ['an empty password', ''],
  ['a password function that throws', () => { throw thrown }, thrown],
  ['a password function that rejects', async () => { throw thrown }, thrown],
  ['a password function whose own server cannot be reached', async () => { throw unreachable }, unreachable],
  ['a password function that throws no error', () => { throw 'no' }, 'no'], // eslint-disable-line no-throw-literal
  ['a password function that returns nothing', (() => {}) as never],
  ['a password function that returns an empty string', () => ''],
  ['a password function that returns a string with a zero byte', () => 's3\0cret'],
  ['a password function that returns a number', (() => 42) as never]
]

for (const [name, password, cause] of cases) {
  t.test(`${name}: the boot fails as a refused login`, async (t) => {
    const error = await setUp(t, { password }).ready().then(() => null, (error) => error)
    t.match(error, refused)
    if (cause !== undefined) t.equal(error.cause.cause, cause, 'what the function threw is to be found')
  })

  for (const strategy of strategies) {
    t.test(`${name}: a later connection is refused in the same way (${strategy})`, async (t) => {
      const app = setUp(t, { password, startupCheck: false, pool: { strategy } })
      const answer = await app.inject('/')
      t.equal(answer.statusCode, 503)
      t.equal(answer.headers['retry-after'], '5')
      t.match(answer.json(), { code: refused.code })
      await t.rejects(app.db.query('SELECT 1'), refused)
      await t.rejects(app.db.scope((session) => session.query('SELECT 1')), refused)
      t.same(app.db.stats(), { ...app.db.stats(), inUse: 0, waiting: 0 })
    })
  }
}

t.test('a missing password is said in words', async (t) => {
  for (const options of [{}, { password: '' }]) {
    const error = await setUp(t, options).ready().then(() => null, (error) => error)
    t.match([error.message, error.cause?.message].join(' '), /password/)
  }
})

t.test('a password function may fail now and succeed later', async (t) => {
  let open = false
  const app = setUp(t, { startupCheck: false, password: () => { if (open) return password; throw thrown } })
  t.equal((await app.inject('/')).statusCode, 503)
  open = true
  t.same((await app.inject('/')).json(), { one: 1 })
})

t.test('neither a wrong return value nor a password is to be seen in the error', async (t) => {
  const error = await setUp(t, { password: (() => ({ token: 'hidden-s3cret' })) as never }).ready().then(() => null, (error) => error)
  t.match(error, refused)
  t.notOk([error.message, error.stack, error.cause.message, JSON.stringify(error)].join().includes('hidden-s3cret'))
})

const direct = onlyDirect(t, 'PgBouncer has passwords of its own')

for (const strategy of strategies) {
  direct.test(`strategy '${strategy}': a changed password is used after reset(), and no request fails`, async (t) => {
    await db.query("CREATE ROLE rotating LOGIN PASSWORD 'first'")
    t.teardown(() => db.query('DROP ROLE rotating'))
    let current = 'first'
    const app = Fastify()
    t.teardown(() => app.close())
    app.register(pgScope, { host, port, user: 'rotating', database, password: () => current, pool: { strategy, max: 2 } })
    app.get('/', async (request) => (await request.db.query('SELECT 1 AS one')).rows[0])
    const ask = async () => {
      const answers = await Promise.all(Array.from({ length: 6 }, () => app.inject('/')))
      t.same(answers.map(({ statusCode }) => statusCode), Array.from({ length: 6 }, () => 200))
    }
    await ask()
    await db.query("ALTER ROLE rotating PASSWORD 'second'")
    current = 'second'
    await Promise.all([ask(), app.db.reset()])
    await ask()
    current = 'wrong'
    await app.db.reset()
    t.match((await app.inject('/')).json(), { code: 'FST_PG_SCOPE_LOGIN_REFUSED', statusCode: 503 })
    current = 'second'
    await ask()
  })
}
