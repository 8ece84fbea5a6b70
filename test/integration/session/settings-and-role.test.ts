import t from 'tap'
import Fastify from 'fastify'
import pgScope from '../../../harness/plugin.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { waitFor } from '../../../harness/wait-for.ts'
import type { Session } from '../../../types/session.ts'

const postgres = await startTestPostgres(t)
await postgres.query('CREATE ROLE reader; GRANT reader TO CURRENT_USER; CREATE TABLE secrets (a int)')
const app = Fastify()
await app.register(pgScope, { connectionString: postgres.connectionString, exposeErrors: true, pool: { max: 1 } })
t.teardown(() => app.close())

const { db } = app
const setting = async (session: Session, name: string): Promise<string | null> => (await session.query('SELECT current_setting($1, true) AS value', [name])).rows[0].value || null
const who = async (session: Session): Promise<string> => (await session.query('SELECT current_user::text AS name')).rows[0].name
const owner = (await postgres.query('SELECT current_user::text AS name')).rows[0].name

app.get('/tenant', {
  config: {
    db: {
      settings: (request) => {
        if (request.headers.tenant === 'broken') throw Object.assign(new Error('which tenant?'), { statusCode: 400 })
        return { 'app.tenant': request.headers.tenant as string }
      },
      role: (request) => request.headers.role as string ?? owner
    }
  }
}, async (request) => ({ tenant: await setting(request.db, 'app.tenant'), role: await who(request.db), fixed: await setting(request.db, 'app.fixed') }))
app.get('/untouched', { config: { db: { settings: () => { throw new Error('not asked') } } } }, async () => ({ fine: true }))
app.get('/autocommit', { config: { db: { mode: 'autocommit', settings: (request) => ({ 'app.tenant': request.headers.tenant as string }) } } }, async (request) => ({
  alone: await setting(request.db, 'app.tenant'),
  inside: await request.db.transaction((session) => setting(session, 'app.tenant'))
}))

t.test('settings and role hold for the transaction, and the next user of the connection has none of them', async t => {
  await db.scope(async (session) => {
    t.equal(await setting(session, 'app.tenant'), 'it\'s "a"; --')
    t.equal(await setting(session, 'app.level'), '7')
    t.equal(await who(session), 'reader')
    await t.rejects(session.query('SELECT * FROM secrets'), { code: '42501' })
    await session.rollback()
  }, { settings: { 'app.tenant': 'it\'s "a"; --', 'app.level': 7 }, role: 'reader' })
  await db.scope(async (session) => {
    t.equal(await setting(session, 'app.tenant'), null)
    t.equal(await who(session), owner)
  })
})

t.test('they hold for every transaction of a session', async t => {
  await db.scope(async (session) => {
    for (let i = 0; i < 2; i++) {
      t.equal(await setting(session, 'app.tenant'), 'a')
      await session.commit()
      t.equal(await who(session), 'reader')
      await session.rollback()
    }
  }, { settings: { 'app.tenant': 'a' }, role: 'reader' })
})

t.test('they outlive a savepoint that is rolled back', async t => {
  await db.scope(async (session) => {
    await session.transaction(() => session.query('SELECT 1/0')).catch(() => {})
    t.equal(await setting(session, 'app.tenant'), 'a')
    t.equal(await who(session), 'reader')
  }, { settings: { 'app.tenant': 'a' }, role: 'reader' })
})

t.test('a route\'s functions of the request are asked for each request', async t => {
  const get = (headers: Record<string, string>) => app.inject({ url: '/tenant', headers })
  t.same((await get({ tenant: 'a' })).json(), { tenant: 'a', role: owner, fixed: null })
  t.same((await get({ tenant: 'b', role: 'reader' })).json(), { tenant: 'b', role: 'reader', fixed: null })
  t.equal(await db.scope((session) => setting(session, 'app.tenant')), null)
})

t.test('a function that throws is the statement\'s error; it opens nothing and is not asked without need', async t => {
  const { acquired } = db.stats().counters
  const answer = await app.inject({ url: '/tenant', headers: { tenant: 'broken' } })
  t.equal(answer.statusCode, 400)
  t.match(answer.json(), { message: 'which tenant?' })
  t.equal((await app.inject('/untouched')).statusCode, 200)
  t.equal(db.stats().counters.acquired, acquired)
})

t.test('what such a function returns is checked: a missing tenant is no empty one', async t => {
  const answer = await app.inject('/tenant')
  t.match(answer.json(), { code: 'FST_PG_SCOPE_OPTIONS' })
  t.match((await app.inject({ url: '/tenant', headers: { tenant: 'a', role: '' } })).json(), { code: 'FST_PG_SCOPE_OPTIONS' })
})

t.test('a role that does not exist keeps the handler\'s statements from running', async t => {
  t.match((await app.inject({ url: '/tenant', headers: { tenant: 'a', role: 'nobody' } })).json(), { statusCode: 500, code: '22023' })
  await waitFor(() => db.stats().inUse === 0)
})

t.test('in autocommit they hold for each statement and for each transaction(fn)', async t => {
  t.same((await app.inject({ url: '/autocommit', headers: { tenant: 'a' } })).json(), { alone: 'a', inside: 'a' })
  await db.scope(async (session) => {
    t.equal(await who(session), 'reader')
    t.equal(await setting(session, 'app.tenant'), 'x')
    const results = await session.query('SELECT current_user::text AS a; SELECT current_setting(\'app.tenant\') AS a') as never as { rows: unknown[] }[]
    t.same(results.map(({ rows }) => rows), [[{ a: 'reader' }], [{ a: 'x' }]])
    t.same(await session.stream('SELECT current_user::text AS a').toArray(), [{ a: 'reader' }])
  }, { mode: 'autocommit', role: 'reader', settings: { 'app.tenant': 'x' } })
  t.equal(await db.scope((session) => who(session), { mode: 'autocommit' }), owner)
})

t.test('settings of the plugin, the route and the request come together; the nearest wins', async t => {
  const app = Fastify()
  await app.register(pgScope, { connectionString: postgres.connectionString, settings: { 'app.a': 'plugin', 'app.b': 'plugin' } })
  app.get('/', { config: { db: { settings: { 'app.b': 'route' } } } }, async (request) => [await setting(request.db, 'app.a'), await setting(request.db, 'app.b')])
  t.teardown(() => app.close())
  t.same((await app.inject('/')).json(), ['plugin', 'route'])
  t.same(await app.db.scope(async (session) => [await setting(session, 'app.a'), await setting(session, 'app.b')], { settings: { 'app.b': 'scope' } }), ['plugin', 'scope'])
})
