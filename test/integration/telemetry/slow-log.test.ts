// What the log says about work that takes long.
import t from 'tap'
import { openLoggedApp } from '../../../harness/logged-app.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { waitFor } from '../../../harness/wait-for.ts'
import type { PgScopeOptions } from '../../../types/options.ts'

interface Line {
  level: number
  msg: string
  reqId?: string
  route?: string
  duration?: number
  waitTime?: number
  rows?: number
  statement?: string
  statements?: number
  outcome?: string
  code?: string
  kind?: string
}

const postgres = await startTestPostgres(t)
await postgres.query('CREATE TABLE note (text text UNIQUE)')
const slowStatement = 'a statement took longer than slowStatementThreshold'
const slowTransaction = 'a transaction took longer than slowTransactionThreshold'
const sleep = 'SELECT pg_sleep(0.15), $1::text AS secret'

async function open (t: { teardown (fn: () => unknown): unknown }, plugin: PgScopeOptions, fastify: object = {}) {
  const opened = await openLoggedApp<Line>(postgres.connectionString, { plugin, fastify })
  t.teardown(() => opened.app.close())
  // On a busy machine any statement may be slow.
  return { ...opened, slow: (msg: string) => opened.log.filter((line) => line.msg === msg && line.statement?.includes('pg_sleep') !== false) }
}

t.test('a slow statement is a warning with route, request, time and rows, and without values', async (t) => {
  const { app, log, slow } = await open(t, { slowStatementThreshold: 100 })
  app.get('/notes/:id', async (request) => {
    await request.db.query('SELECT 1')
    await request.db.query(sleep, ['hidden'])
    await request.db.query("SELECT pg_sleep(0.15), 'hidden'")
  })
  await app.inject({ url: '/notes/7', headers: { 'request-id': 'mine' } })
  t.equal(slow(slowStatement).length, 2)
  const [first, second] = slow(slowStatement)
  t.match(first, { level: 40, route: 'GET /notes/:id', reqId: 'req-1', waitTime: Number, rows: 1, statement: sleep })
  t.ok(first!.duration! >= 100)
  t.equal(second!.statement, 'SELECT pg_sleep(?), ?')
  t.notMatch(JSON.stringify(log), /hidden/)
  t.equal(slow(slowTransaction).length, 0)
})

t.test('a slow transaction says how many statements and rows it had, and how it ended', async (t) => {
  const { app, slow } = await open(t, { slowTransactionThreshold: 100 }, { requestIdLogLabel: 'requestId' })
  app.post('/', async (request) => {
    await request.db.query("INSERT INTO note SELECT 'n' || i FROM generate_series(1, 3) i")
    await request.db.transaction((db) => db.query(sleep, ['hidden']))
    await request.db.query('SELECT 1; SELECT 2')
  })
  app.get('/fails', async (request) => {
    await request.db.query(sleep, ['hidden'])
    await request.db.query('SELECT 1/0')
  })
  t.equal((await app.inject({ method: 'POST', url: '/' })).statusCode, 200)
  await app.inject('/fails')
  await waitFor(() => slow(slowTransaction).length === 2)
  const [first, second] = slow(slowTransaction)
  t.match(first, { level: 40, route: 'POST /', requestId: 'req-1', waitTime: Number, statements: 3, rows: 6, outcome: 'committed' })
  t.match(second, { route: 'GET /fails', statements: 1, rows: 1, outcome: 'rolledBack', code: '22012' })
})

t.test('scopes, autocommit, streams and app.db.query() are watched too', async (t) => {
  const { app, slow } = await open(t, { slowStatementThreshold: 100, slowTransactionThreshold: 100 })
  app.get('/auto', { config: { db: { mode: 'autocommit' } } }, async (request) => {
    await request.db.query(sleep, ['a'])
    await request.db.transaction((db) => db.query(sleep, ['b']))
  })
  app.get('/rows', async (request) => request.db.stream('SELECT pg_sleep(0.15), $1::text AS v', ['c']))
  await app.inject('/auto')
  t.match(slow(slowStatement), [{ route: 'GET /auto', reqId: 'req-1' }, { route: 'GET /auto', reqId: 'req-1' }])
  t.match(slow(slowTransaction), [{ route: 'GET /auto', reqId: 'req-1', statements: 1 }])
  await app.inject('/rows')
  await waitFor(() => slow(slowTransaction).length === 2)
  t.match(slow(slowStatement).at(-1), { route: 'GET /rows', reqId: 'req-2', statement: /^SELECT pg_sleep/, kind: 'fetch', rows: 1 })
  const before = slow(slowStatement).length
  await app.db.query(sleep, ['d'])
  await app.db.scope((db) => db.query(sleep, ['e']))
  t.equal(slow(slowStatement).length, before + 2)
  t.equal(slow(slowTransaction).length, 3)
  t.notOk('route' in slow(slowTransaction)[2]!)
})

t.test('a second engine logs its own work alone, and nothing is logged without a threshold', async (t) => {
  const { app, plugin, slow } = await open(t, { slowStatementThreshold: 100 })
  await app.register((await import('../../../harness/plugin.ts')).pgScope, { ...plugin, decorator: 'other', slowStatementThreshold: 0 })
  await (app as any).other.query(sleep, ['x'])
  t.equal(slow(slowStatement).length, 0)
})
