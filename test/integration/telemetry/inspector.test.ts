// What a developer sees on the inspector's page, and who may see it.
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import { pgScope } from '../../../harness/plugin.ts'
import { openRequest } from '../../../harness/http-client.ts'
import { eachPgBouncer, startPgBouncer } from '../../../harness/pgbouncer.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { waitFor } from '../../../harness/wait-for.ts'
import { inspector, type InspectorOptions, type InspectorState } from '../../../lib/inspector/index.ts'

const postgres = await startTestPostgres(t)

async function start (t: Test, options: InspectorOptions = {}, plugin: object = {}) {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(pgScope, { connectionString: postgres.connectionString, closeTimeout: 0, ...plugin })
  await app.register(inspector, { prefix: '/inspector', heldFor: 0, ...options })
  const gate: { open (): void, promise: Promise<void> } = { open: () => {}, promise: Promise.resolve() }
  gate.promise = new Promise((resolve) => { gate.open = resolve })
  app.get('/notes/:id', async (request) => {
    await request.db.query("SELECT $1::text, 'b'", ['secret'])
    await request.db.query("SELECT 'secret'")
    await gate.promise
  })
  app.get('/auto', { config: { db: { mode: 'autocommit' } } }, (request) => request.db.query('SELECT pg_sleep(60)'))
  app.get('/fails', (request) => request.db.query("SELECT 'secret'::int"))
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = app.server.address() as { port: number }
  const state = async (): Promise<InspectorState> => (await app.inject('/inspector/state')).json()
  return { app, port, gate, state }
}

t.test('sessions in flight, waits, held connections and failures are shown, without values', async (t) => {
  const { app, port, gate, state } = await start(t, {}, { pool: { max: 2 } })
  const [note, auto] = [openRequest(port, { path: '/notes/7' }), openRequest(port, { path: '/auto' })]
  await waitFor(async () => (await state()).sessions.some((session) => session.state === 'idle in transaction'))
  await waitFor(async () => (await state()).sessions.some((session) => session.route === 'GET /auto' && session.state === 'active'))
  const waiting = app.inject('/fails')
  await waitFor(async () => (await state()).waits.length === 1)
  const now = await state()
  t.match(now.sessions.find(({ route }) => route === 'GET /notes/:id'), {
    state: 'idle in transaction', request: /^req-/, age: Number, statement: 'SELECT ?', statements: 2
  })
  t.match(now.sessions.find(({ route }) => route === 'GET /auto'), { statement: 'SELECT pg_sleep(?)' })
  t.match(now.sessions.find(({ route }) => route === 'GET /fails'), { state: 'opening' })
  t.match(now.waits, [{ route: 'GET /fails', age: Number }])
  t.equal(now.held.length, 2)
  t.match(now, { engine: { decorator: 'db', host: '127.0.0.1' }, stats: { inUse: 2, waiting: 1, max: 2 }, pgbouncer: null })
  gate.open()
  t.equal((await waiting).statusCode, 500)
  await waitFor(async () => (await state()).sessions.length === 1)
  const after = await state()
  t.match(after.failures.at(-1), { what: 'statement', code: '22P02', route: 'GET /fails', statement: 'SELECT ?::int' })
  t.notMatch(JSON.stringify([now, after]), /secret/)
  note.socket.destroy()
  auto.socket.destroy()
  await waitFor(async () => (await state()).sessions.length === 0)
})

t.test('the page has no external files and a strict policy', async (t) => {
  const { app } = await start(t)
  const { headers, body } = await app.inject('/inspector')
  t.match(headers['content-security-policy'], /^default-src 'none'; script-src 'sha256-[^']+'; style-src 'sha256-[^']+'; connect-src 'self';/)
  t.match(headers, { 'cache-control': 'no-store', 'content-type': 'text/html; charset=utf-8' })
  t.notMatch(body, /(?:src|href)=/)
  t.match(body, 'prefers-color-scheme: dark')
})

t.test('in production it needs a guard, which alone decides', async (t) => {
  const before = process.env.NODE_ENV
  process.env.NODE_ENV = 'production'
  t.teardown(() => { if (before === undefined) delete process.env.NODE_ENV; else process.env.NODE_ENV = before })
  await t.rejects(start(t), { code: 'FST_PG_SCOPE_OPTIONS', message: /needs a `guard`/ })
  const { app } = await start(t, { guard: async (request) => request.headers['x-token'] === 'good' })
  for (const url of ['/inspector', '/inspector/state']) {
    t.equal((await app.inject(url)).statusCode, 403)
    t.equal((await app.inject({ url, headers: { 'x-token': 'good' } })).statusCode, 200)
  }
  const { app: lax } = await start(t, { guard: (() => 'yes') as never })
  t.equal((await lax.inject('/inspector/state')).statusCode, 403, 'only true is true')
  const { app: own } = await start(t, { guard: (_request, reply) => { reply.code(401).send('who?'); return false } })
  t.equal((await own.inject('/inspector/state')).statusCode, 401)
})

t.test('a wrong option stops the boot', async (t) => {
  await t.rejects(start(t, { decorator: 'nothing' }), { code: 'FST_PG_SCOPE_OPTIONS', message: /no engine `nothing`/ })
  await t.rejects(start(t, { guards: true } as never), { code: 'FST_PG_SCOPE_OPTIONS' })
})

t.test('PgBouncer shows its pools where the user may', async (t) => {
  await eachPgBouncer(t, async (t, program) => {
    const pgbouncer = await startPgBouncer(t, postgres, { program, settings: { stats_users: postgres.user } })
    const console = new URL(pgbouncer.connectionString)
    console.pathname = '/pgbouncer'
    const { state } = await start(t, { pgbouncer: console.href }, { connectionString: pgbouncer.connectionString })
    t.match((await state()).pgbouncer, { rows: [{ database: String, cl_waiting: Number }] })
  })
  const { state } = await start(t, { pgbouncer: 'postgres://nobody@127.0.0.1:1/pgbouncer' })
  t.same((await state()).pgbouncer, { error: 'ECONNREFUSED' })
})

const chromium = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(existsSync)

t.test('Chromium shows the sessions', { skip: chromium === undefined && 'Chromium is not installed' }, async (t) => {
  const { port, gate, state } = await start(t)
  const { socket } = openRequest(port, { path: '/notes/7' })
  await waitFor(async () => (await state()).sessions.some((session) => session.state === 'idle in transaction'))
  const profile = await mkdtemp(join(tmpdir(), 'pg-scope-chromium-'))
  t.teardown(() => rm(profile, { recursive: true, force: true, maxRetries: 5 }))
  const { stdout } = await promisify(execFile)(chromium!, [
    '--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', `--user-data-dir=${profile}`,
    '--virtual-time-budget=3000', '--dump-dom', `http://127.0.0.1:${port}/inspector`
  ], { timeout: 60000 })
  t.match(stdout, '<td><span>GET /notes/:id</span></td>')
  t.match(stdout, /idle in transaction/)
  t.match(stdout, /<code>SELECT \?<\/code>/)
  t.notMatch(stdout, 'role="status">No answer')
  gate.open()
  socket.destroy()
})
