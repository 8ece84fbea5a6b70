import Fastify from 'fastify'
import t, { type Test } from 'tap'
import pgScope, { type Notice, type PgScopeOptions } from '../../../harness/plugin.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { strategies } from '../../../harness/variant.ts'
import { waitFor } from '../../../harness/wait-for.ts'

const postgres = await startTestPostgres(t)
await postgres.query(`
  CREATE TABLE orders (id int);
  CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'order %', NEW.id; RETURN NULL; END $$;
  CREATE CONSTRAINT TRIGGER noted AFTER INSERT ON orders DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note()`)
const { connectionString } = postgres
const raise = (what: string) => `DO $$ BEGIN RAISE ${what}; END $$`

const unhandled: unknown[] = []
process.on('unhandledRejection', (error) => unhandled.push(error))
process.on('uncaughtException', (error) => unhandled.push(error))

async function setUp (t: Test, options: PgScopeOptions = {}, level = 'debug') {
  const lines: {
    level: number, msg: string, notice?: Partial<Notice>, route?: string, err?: { message: string }
  }[] = []
  const app = Fastify({ logger: { level, stream: { write: (line: string) => { lines.push(JSON.parse(line)) } } } })
  t.teardown(() => app.close())
  await app.register(pgScope, { connectionString, ...options })
  app.get('/orders/:id', async (request) => (await request.db.query(raise('NOTICE \'hello\''))).command)
  app.post('/orders', async (request) => {
    await request.db.query('INSERT INTO orders VALUES (1)')
    return {}
  })
  return { app, lines, notices: () => lines.filter(({ notice }) => notice !== undefined) }
}

t.test('NOTICE and WARNING are logged at level debug, with severity, code, message and route', async (t) => {
  const { app, notices } = await setUp(t)
  t.equal((await app.inject('/orders/7')).statusCode, 200)
  await app.db.query('DROP TABLE IF EXISTS no_such_table')
  await app.db.query(raise('WARNING \'beware\''))
  t.match(notices(), [
    { level: 20, route: 'GET /orders/:id', notice: { severity: 'NOTICE', code: '00000', message: 'hello' } },
    { level: 20, route: undefined, notice: { severity: 'NOTICE', code: '00000', message: /no_such_table/ } },
    { level: 20, notice: { severity: 'WARNING', code: '01000', message: 'beware' } }
  ])
})

t.test('they are logged nowhere else: their text may hold data', async (t) => {
  const { app, lines } = await setUp(t, {}, 'info')
  t.equal((await app.inject('/orders/7')).statusCode, 200)
  t.notOk(JSON.stringify(lines).includes('hello'))
})

for (const strategy of strategies) {
  t.test(`onNotice observes all that come, from whatever sent them (${strategy})`, async (t) => {
    const seen: [string | undefined, string | undefined][] = []
    const { app } = await setUp(t, {
      pool: { strategy, max: 2 }, onNotice: ({ message }, route) => { seen.push([message, route]) }
    })
    await app.inject('/orders/7')
    await app.db.query(raise('NOTICE \'by itself\''))
    await app.db.scope(async (session) => {
      await session.query(raise('NOTICE \'of a scope\''))
      await session.transaction((inner) => inner.query(raise('NOTICE \'nested\'')))
    })
    await app.db.lease((client) => client.query(raise('NOTICE \'raw\'')))
    await app.inject({ method: 'POST', url: '/orders' })
    t.same(seen, [['hello', 'GET /orders/:id'], ['by itself', undefined], ['of a scope', undefined], ['nested', undefined], ['raw', undefined], ['order 1', 'POST /orders']])
  })
}

t.test('a notice of COMMIT belongs to its own request, also where the connection was handed on', async (t) => {
  const seen: (string | undefined)[] = []
  const { app } = await setUp(t, { pool: { max: 1 }, onNotice: (_notice, route) => { seen.push(route) } })
  app.get('/other', async (request) => (await request.db.query('SELECT 1')).rows)
  const answers = await Promise.all(Array.from({ length: 10 }, (_, i) => i % 2 === 0 ? app.inject({ method: 'POST', url: '/orders' }) : app.inject('/other')))
  t.same(answers.map(({ statusCode }) => statusCode), Array(10).fill(200))
  t.same(seen, Array(5).fill('POST /orders'))
})

const faults: [string, PgScopeOptions['onNotice']][] = [
  ['throws', () => { throw new Error('observer is broken') }],
  ['rejects', async () => { throw new Error('observer is broken') }]
]
for (const [name, onNotice] of faults) {
  t.test(`an observer that ${name} is logged, and changes nothing`, async (t) => {
    const { app, lines } = await setUp(t, { onNotice })
    t.equal((await app.inject('/orders/7')).statusCode, 200)
    await waitFor(() => lines.some(({ err, level }) => level === 50 && err?.message === 'observer is broken'))
    t.same((await app.db.query('SELECT 1 AS a')).rows, [{ a: 1 }])
    t.same(unhandled, [])
  })
}
