import t from 'tap'
import { gate, outcomeCases } from './outcome-cases.ts'
import { hangUp, send } from '../../../harness/http-client.ts'
import { waitFor } from '../../../harness/wait-for.ts'

// What the user's functions for settings and role return decides what row-level security lets through.
const { test, postgres } = await outcomeCases(t)
await postgres.query('CREATE ROLE reader; GRANT reader TO CURRENT_USER; GRANT INSERT, SELECT ON note TO reader')
const insert = 'INSERT INTO note VALUES ($1)'
const seen = 'SELECT current_setting(\'app.tenant\', true) AS tenant, current_user::text AS who'
const owner = (await postgres.query('SELECT current_user::text AS name')).rows[0].name

class Tenant { 'app.tenant' = 'a' }

const wrongSettings: [string, unknown][] = [
  ['undefined', undefined], ['null', null], ['a Map', new Map([['app.tenant', 'a']])], ['a string', 'app.tenant=a'], ['an array', ['app.tenant']],
  ['an instance of a class', new Tenant()], ['a value that is undefined', { 'app.tenant': undefined }], ['a promise as a value', { 'app.tenant': Promise.resolve('a') }],
  ['a role among them', { role: 'reader' }]
]
const wrongRoles: [string, unknown][] = [['undefined', undefined], ['null', null], ['an empty string', ''], ['an array', ['reader']], ['none', 'none'], ['a number', 7]]
const wrong = [
  ...wrongSettings.map(([name, value]) => [`settings(request) returns ${name}`, { settings: () => value }] as const),
  ...wrongSettings.map(([name, value]) => [`settings(request) promises ${name}`, { settings: async () => value }] as const),
  ...wrongRoles.map(([name, value]) => [`role(request) returns ${name}`, { role: () => value }] as const),
  ...wrongRoles.map(([name, value]) => [`role(request) promises ${name}`, { role: async () => value }] as const)
]

test('anything but a plain object of settings, or the name of a role, is an error, and no statement runs', {}, async (t, { app, listen, saved }) => {
  wrong.forEach(([, config], i) => {
    for (const mode of ['transaction', 'autocommit'] as const) {
      const options = { config: { db: { mode, ...config } as never } }
      app.get(`/${mode}/${i}`, options, async (request) => (await request.db.query(insert, ['lost'])).rowCount)
      app.get(`/${mode}/swallowed/${i}`, options, async (request) => (await request.db.query(insert, ['lost']).catch((error) => ({ error: error.code }))))
      app.get(`/${mode}/inner/${i}`, options, async (request) => (await request.db.transaction((db) => db.query(insert, ['lost']))).rowCount)
      app.get(`/${mode}/several/${i}`, options, async (request) => (await request.db.query('INSERT INTO note VALUES (\'lost\'); SELECT 1')).rowCount)
      app.get(`/${mode}/stream/${i}`, options, async (request) => await request.db.stream('SELECT 1').toArray())
    }
  })
  const port = await listen()
  const { acquired } = app.db.stats().counters
  for (const [i, [name]] of wrong.entries()) {
    for (const path of [`/transaction/${i}`, `/transaction/swallowed/${i}`, `/transaction/inner/${i}`, `/transaction/several/${i}`, `/transaction/stream/${i}`,
      `/autocommit/${i}`, `/autocommit/inner/${i}`, `/autocommit/several/${i}`, `/autocommit/stream/${i}`]) {
      t.match(await send(port, { path }), { status: 500, body: /FST_PG_SCOPE_OPTIONS/ }, `${name}: ${path}`)
    }
    t.match(await send(port, { path: `/autocommit/swallowed/${i}` }), { status: 200, body: /FST_PG_SCOPE_OPTIONS/ }, `${name}, in autocommit: its error is the statement's`)
  }
  t.equal(app.db.stats().counters.acquired, acquired, 'no connection was taken')
  t.same(await saved(), [])
})

test('promises of settings and of a role are awaited, in every kind of work', {}, async (t, { app, listen }) => {
  const calls: string[] = []
  for (const mode of ['transaction', 'autocommit'] as const) {
    const options = {
      config: {
        db: {
          mode,
          settings: async (request: { url: string }) => { calls.push('settings'); return { 'app.tenant': request.url } },
          role: async () => { calls.push('role'); await new Promise(setImmediate); return 'reader' }
        }
      }
    }
    app.get(`/${mode}/query`, options, async (request) => (await request.db.query(seen)).rows[0])
    app.get(`/${mode}/several`, options, async (request) => ((await request.db.query(`SELECT 1; ${seen}`)) as unknown as { rows: unknown[] }[])[1]!.rows[0])
    app.get(`/${mode}/inner`, options, async (request) => (await request.db.transaction((db) => db.query(seen))).rows[0])
    app.get(`/${mode}/stream`, options, async (request) => (await request.db.stream(seen).toArray())[0])
  }
  const port = await listen()
  for (const path of ['/transaction/query', '/transaction/several', '/transaction/inner', '/transaction/stream', '/autocommit/query', '/autocommit/several', '/autocommit/inner', '/autocommit/stream']) {
    calls.length = 0
    const { status, body } = await send(port, { path })
    t.equal(status, 200, path)
    t.same(JSON.parse(body.toString()), { tenant: path, who: 'reader' }, path)
    t.same(calls, ['settings', 'role'], `${path}: each function is asked once`)
  }
})

test('each transaction of a request asks the functions once, however many statements it has', {}, async (t, { app }) => {
  let asked = 0
  app.get('/', { config: { db: { settings: async () => { asked++; return { 'app.tenant': 'a' } } } } }, async (request) => {
    await Promise.all([request.db.query('SELECT 1'), request.db.query('SELECT 2')])
    await request.db.query('SELECT 3')
    await request.db.commit()
    await request.db.query('SELECT 4')
    return asked
  })
  t.equal((await app.inject('/')).body, '2')
})

test('statements that are called meanwhile wait in the order of their calls, and no connection is taken', { plugin: { pool: { max: 1 } } }, async (t, { app, saved }) => {
  const known = gate()
  const order: number[] = []
  app.get('/', { config: { db: { settings: async () => { await known.opened; return { 'app.tenant': 'a' } } } } }, async (request) => {
    const statements = [1, 2, 3].map((i) => request.db.query(insert, [i]).then(() => order.push(i)))
    await new Promise(setImmediate)
    const { inUse, waiting } = app.db.stats()
    t.same({ inUse, waiting }, { inUse: 0, waiting: 0 })
    await app.db.query('SELECT 1')
    known.open()
    await Promise.all(statements)
    return (await request.db.query('SELECT current_setting(\'app.tenant\') AS tenant')).rows[0]
  })
  t.same((await app.inject('/')).json(), { tenant: 'a' })
  t.same(order, [1, 2, 3])
  t.same(await saved(), ['1', '2', '3'])
})

test('where a plugin\'s function and a route\'s object name the same setting, the route\'s wins', { plugin: { settings: async () => ({ 'app.tenant': 'plugin', 'app.other': 'plugin' }) } }, async (t, { app }) => {
  app.get('/', { config: { db: { settings: { 'app.tenant': 'route' } } } }, async (request) => (await request.db.query('SELECT current_setting(\'app.tenant\') AS a, current_setting(\'app.other\') AS b')).rows[0])
  t.same((await app.inject('/')).json(), { a: 'route', b: 'plugin' })
})

test('a promise that is rejected is the statement\'s error, and the request\'s', {}, async (t, { app, saved }) => {
  const broken = { settings: async () => { throw Object.assign(new Error('which tenant?'), { statusCode: 400 }) } }
  app.get('/awaited', { config: { db: broken } }, async (request) => (await request.db.query(insert, ['lost'])).rowCount)
  app.get('/swallowed', { config: { db: broken } }, async (request) => { await request.db.query(insert, ['lost']).catch(() => {}); return 'x' })
  app.get('/forgotten', { config: { db: broken } }, async (request) => { request.db.query(insert, ['lost']).catch(() => {}); return 'x' })
  app.get('/again', { config: { db: { settings: async () => ({ 'app.tenant': tenants.shift() }) as Record<string, string> } } }, async (request) => {
    await request.db.query(insert, ['lost']).catch(() => {})
    await request.db.rollback()
    return (await request.db.query(seen)).rows[0]
  })
  const tenants = [undefined, 'b']
  t.match(await app.inject('/awaited'), { statusCode: 400, body: /which tenant/ })
  t.match(await app.inject('/swallowed'), { statusCode: 500, body: /TRANSACTION_ABORTED/ })
  t.match(await app.inject('/forgotten'), { statusCode: 500 })
  t.same((await app.inject('/again')).json(), { tenant: 'b', who: owner }, 'rollback() makes the session usable again')
  t.same(await saved(), [])
})

const never = new Promise<never>(() => {})
for (const mode of ['transaction', 'autocommit'] as const) {
  const config = { db: { mode, settings: () => never } }

  test(`a hang-up ends the wait for a promise that never settles (${mode})`, {}, async (t, { app, listen, saved }) => {
    const reached = gate()
    let error: unknown
    app.get('/', { config }, async (request) => {
      const statement = request.db.query(insert, ['lost']).catch((reason) => { error = reason })
      reached.open()
      await statement
    })
    await hangUp(await listen(), {}, { after: reached.opened })
    await waitFor(() => error)
    t.match(error, { code: 'FST_PG_SCOPE_CANCELED' })
    t.same(await saved(), [])
  })

  test(`so does handlerTimeout (${mode})`, {}, async (t, { app, listen, saved }) => {
    let error: unknown
    app.get('/', { config, handlerTimeout: 200 }, async (request) => {
      await request.db.query(insert, ['lost']).catch((reason) => { error = reason })
    })
    t.match(await send(await listen()), { status: 503, body: /FST_ERR_HANDLER_TIMEOUT/ })
    await waitFor(() => error)
    t.same(await saved(), [])
  })
}

test('so does rollback(), and the session goes on', {}, async (t, { app, saved }) => {
  const tenants: (Promise<never> | Record<string, string>)[] = [never, { 'app.tenant': 'b' }]
  let error: unknown
  app.get('/', { config: { db: { settings: () => tenants.shift()! } } }, async (request) => {
    const lost = request.db.query(insert, ['lost']).catch((reason) => { error = reason })
    await request.db.rollback()
    await lost
    await request.db.query(insert, ['saved'])
    return 'x'
  })
  t.equal((await app.inject('/')).statusCode, 200)
  t.match(error, { code: 'FST_PG_SCOPE_CANCELED', details: /rollback\(\)/ })
  t.same(await saved(), ['saved'])
})

test('a function that uses the session whose settings it is asked for is told so, instead of waiting for itself', {}, async (t, { app, saved }) => {
  for (const mode of ['transaction', 'autocommit'] as const) {
    app.get(`/${mode}`, { config: { db: { mode, settings: async (request) => (await request.db.query('SELECT 1 AS a')).rows[0] } } }, async (request) => (await request.db.query(insert, ['lost'])).rowCount)
  }
  app.get('/lookup', { config: { db: { settings: async () => (await app.db.query('SELECT \'c\' AS "app.tenant"')).rows[0] } } }, async (request) => (await request.db.query(seen)).rows[0])
  for (const mode of ['transaction', 'autocommit']) t.match(await app.inject(`/${mode}`), { statusCode: 500, body: /FST_PG_SCOPE_SESSION_STATE/ })
  t.same((await app.inject('/lookup')).json(), { tenant: 'c', who: owner }, 'app.db answers')
  t.same(await saved(), [])
})
