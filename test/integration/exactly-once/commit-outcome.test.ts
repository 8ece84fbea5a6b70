import t from 'tap'
import { bankCases, type Bank } from './bank.ts'
import pgScope from '../../../harness/plugin.ts'
import { send } from '../../../harness/http-client.ts'
import { startPgProxy, type PgProxy } from '../../../harness/pg-proxy.ts'
import { eachPgBouncer, startPgBouncer } from '../../../harness/pgbouncer.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { onlyDirect, onlyQueue, through } from '../../../harness/variant.ts'
import { waitFor } from '../../../harness/wait-for.ts'
import type { Test } from 'tap'

const { postgres, test } = await bankCases(t)
const insert = 'INSERT INTO entry (text, seconds) VALUES ($1, $2)'

interface Upstream { host: string, port: number, connectionString: string }

/** An app behind a proxy; `upstream` is the server, or a pooler in front of it. */
async function prepare (
  t: Test, { app, plugin, listen }: Bank, upstream: Upstream = postgres
): Promise<{ proxy: PgProxy, post: (path: string) => ReturnType<typeof send>, calls: string[] }> {
  const proxy = await startPgProxy(t, upstream)
  const calls: string[] = []
  const connectionString = proxy.connectionString(upstream.connectionString)
  await app.register(pgScope, { ...plugin, connectionString, resolveCommits: true })
  app.post<{ Params: { text: string, seconds: number } }>('/:text/:seconds', async (request, reply) => {
    request.db.afterCommit(() => { calls.push('committed') })
    request.db.afterRollback(() => { calls.push('rolled back') })
    await request.db.query(insert, [request.params.text, request.params.seconds])
    return reply.code(201).header('location', '/1').send('saved')
  })
  app.post('/function', async (request) => {
    await request.db.query('SELECT save($1)', ['by a function'])
    return 'saved'
  })
  app.post('/read', async (request) => (await request.db.query('SELECT 1 AS one')).rows)
  app.post('/serializable', { config: { db: { isolation: 'serializable' } } }, async (request) => (await request.db.query('SELECT 1 AS one')).rows)
  const port = await listen()
  await send(port, { method: 'POST', path: '/warm/0' })
  calls.splice(0)
  return { proxy, calls, post: (path) => send(port, { method: 'POST', path }) }
}

await postgres.query('CREATE FUNCTION save(text) RETURNS void LANGUAGE sql AS $$ INSERT INTO entry (text) VALUES ($1) $$')

/** The cases that hold directly and behind a pooler. */
async function cases (
  place: string, open: (t: Test, bank: Bank) => ReturnType<typeof prepare>, parent: Test = t
): Promise<void> {
  await test(`${place}: cut before COMMIT arrives, the client learns that nothing is saved`, { register: false }, async (t, bank) => {
    const { proxy, post, calls } = await open(t, bank)
    const trap = proxy.cutOn(/^commit$/i)
    t.match(await post('/lost/0'), { status: 503, headers: { 'retry-after': '1' }, body: /FST_PG_SCOPE_CONNECTION_LOST/ })
    await trap.sprung
    t.same(await bank.entries(), ['warm'])
    t.same(calls, ['rolled back'])
    t.match(bank.log.filter(({ outcome }) => outcome !== undefined), [{ outcome: 'aborted', transaction: /^\d+$/, system: /^\d+$/, timeline: '00000001' }])
  }, parent)

  await test(`${place}: cut after COMMIT ran, before its answer, the client gets its success`, { register: false }, async (t, bank) => {
    const { proxy, post, calls } = await open(t, bank)
    proxy.cutOn(/^commit$/i, { after: true })
    t.match(await post('/saved/0'), { status: 201, headers: { location: '/1' }, body: 'saved' })
    t.same(await bank.entries(), ['saved', 'warm'])
    t.same(calls, ['committed'])
    t.match(bank.log.filter(({ outcome }) => outcome !== undefined), [{ outcome: 'committed' }])
  }, parent)

  await test(`${place}: cut while COMMIT runs, the client waits for its end`, { register: false }, async (t, bank) => {
    const { proxy, post } = await open(t, bank)
    const response = post('/slow/0.4')
    await waitFor(async () => (await postgres.activity()).some(({ query, state }) => state === 'active' && /^commit$/i.test(query)))
    proxy.cut()
    t.match(await response, { status: 201, body: 'saved' })
    t.same(await bank.entries(), ['slow', 'warm'])
  }, parent)
}

cases(through === 'direct' ? 'directly' : `through PgBouncer ${through}`, (t, bank) => prepare(t, bank))

t.test('PgBouncers', (t) => eachPgBouncer(t, async (file, program) => {
  const bouncer = await startPgBouncer(file, postgres, { program })
  await cases(`behind PgBouncer ${program.version}`, (t, bank) => prepare(t, bank, bouncer), file)
  await test(`behind PgBouncer ${program.version}, which is killed while COMMIT runs: the answer is true`, { register: false }, async (t, bank) => {
    const { post } = await prepare(t, bank, bouncer)
    const response = post('/slow/0.4')
    await waitFor(async () => (await postgres.activity()).some(({ query, state }) => state === 'active' && /^commit$/i.test(query)))
    await bouncer.kill9()
    await bouncer.start()
    const { status } = await response
    t.equal(status === 201, (await bank.entries()).includes('slow'))
    t.not(status, 500)
  }, file)
  await test(`PgBouncer ${program.version} leads to another server from now on: that one is asked`, { register: false }, async (t, bank) => {
    const { user, password } = postgres
    // Not a copy of a template, which would be the same system.
    const other = await startTestPostgres(t, { user, password })
    await other.query('CREATE TABLE entry (text text, seconds float8)')
    // PgBouncer logs in by what it has learnt of the other server.
    const { rows: [{ rolpassword }] } = await postgres.query('SELECT rolpassword FROM pg_authid WHERE rolname = $1', [user])
    await other.query('UPDATE pg_authid SET rolpassword = $1 WHERE rolname = $2', [rolpassword, user])
    const front = await startPgProxy(t, postgres)
    const moving = await startPgBouncer(t, { ...postgres, port: front.port }, { program })
    const { proxy, post } = await prepare(t, { ...bank, plugin: { ...bank.plugin, pool: { max: 1 } } }, moving)
    const systems = [postgres, other].map(async ({ query }) =>
      (await query('SELECT system_identifier::text AS system FROM pg_control_system()')).rows[0].system)
    const [before, after] = await Promise.all(systems)
    t.not(before, after)
    front.redirect(other)
    await moving.reconnect()
    proxy.cutOn(/^commit$/i, { after: true })
    t.match(await post('/moved/0'), { status: 201, body: 'saved' })
    t.match(bank.log.filter(({ outcome }) => outcome !== undefined), [{ outcome: 'committed', system: after }])
  }, file)
}))

test('a transaction that wrote by a function is asked for with COMMIT', { register: false }, async (t, bank) => {
  const { proxy, post } = await prepare(t, bank)
  proxy.cutOn(/^commit$/i, { after: true })
  t.match(await post('/function'), { status: 200 })
  t.same(await bank.entries(), ['by a function', 'warm'])
})

test('a transaction that wrote nothing succeeds; a serializable one, which proves nothing without COMMIT, is a 503', { register: false }, async (t, bank) => {
  const { proxy, post } = await prepare(t, bank)
  proxy.cutOn(/^commit$/i, { after: true })
  t.match(await post('/read'), { status: 200, body: '[{"one":1}]' })
  proxy.cutOn(/^commit$/i, { after: true })
  t.match(await post('/serializable'), { status: 503, body: /FST_PG_SCOPE_CONNECTION_LOST/ })
})

test('scope() and commit() of a session get the outcome too', { register: false }, async (t, bank) => {
  const { proxy } = await prepare(t, bank)
  const { db } = bank.app
  proxy.cutOn(/^commit$/i, { after: true })
  t.equal(await db.scope(async (db) => { await db.query(insert, ['scope', 0]); return 'done' }), 'done')
  await using session = db.session()
  await session.query(insert, ['session', 0])
  proxy.cutOn(/^commit$/i, { after: true })
  await session.commit()
  await session.query(insert, ['session 2', 0])
  proxy.cutOn(/^commit$/i)
  await t.rejects(session.commit(), { code: 'FST_PG_SCOPE_CONNECTION_LOST' })
  t.same(await bank.entries(), ['scope', 'session', 'warm'])
})

test('an outcome that cannot be known within acquireTimeout is COMMIT_UNKNOWN, with all that is known', { register: false, plugin: { pool: { acquireTimeout: 700 } } }, async (t, bank) => {
  const { proxy, post } = await prepare(t, bank)
  const trap = proxy.cutOn(/^commit$/i, { after: true })
  trap.sprung.then(() => proxy.refuse())
  t.match(await post('/perhaps/0'), { status: 500, body: /FST_PG_SCOPE_COMMIT_UNKNOWN/ })
  proxy.refuse(false)
  const { err } = bank.log.find(({ err }) => err?.code === 'FST_PG_SCOPE_COMMIT_UNKNOWN')!
  t.match((err as unknown as { details: string }).details, /within 700 ms.*transaction \d+ of system \d+, timeline 00000001/)
})

test('after a crash of the server: what COMMIT had not reached is not saved, what is committed is unknown', { register: false }, async (t, bank) => {
  const { proxy, post } = await prepare(t, bank)
  const response = post('/slow/60')
  await waitFor(async () => (await postgres.activity()).some(({ query, state }) => state === 'active' && /^commit$/i.test(query)))
  await postgres.restart('immediate')
  t.match(await response, { status: 503, body: /FST_PG_SCOPE_CONNECTION_LOST/ })

  const trap = proxy.cutOn(/^commit$/i, { after: true })
  trap.sprung.then(() => proxy.refuse())
  const perhaps = post('/perhaps/0')
  await trap.sprung
  // Writes what is committed to disk, which servers of tests do late.
  await postgres.query('CHECKPOINT')
  await postgres.restart('immediate')
  proxy.refuse(false)
  t.match(await perhaps, { status: 500, body: /FST_PG_SCOPE_COMMIT_UNKNOWN/ })
  t.match(bank.log.at(-2)?.err?.stack ?? JSON.stringify(bank.log), /has restarted since/)
})

test('the question costs no round trip, and COMMIT no answer more', { register: false }, async (t, bank) => {
  const { proxy, post } = await prepare(t, bank)
  for (const [path, trips] of [['/x/0', 2], ['/function', 2], ['/read', 2]] as const) {
    await post(path)
    proxy.reset()
    await post(path)
    const opened = proxy.connections
    if (opened === 0) t.equal(proxy.roundTrips, trips, path)
  }
})

await test('the server of a direct connection is not asked with each COMMIT which system it is', { register: false, plugin: { pool: { max: 1 } } }, async (t, bank) => {
  const { proxy, post } = await prepare(t, bank)
  // The first transaction finds out that there is no pooler.
  await post('/x/0')
  let asked = 0
  proxy.cutOn((text) => {
    if (text.includes('pg_control_system')) asked++
    return false
  })
  for (const path of ['/x/0', '/function', '/x/0']) t.match(await post(path), { status: path === '/function' ? 200 : 201 })
  t.equal(asked, 0)
  proxy.cutOn(/^commit$/i, { after: true })
  t.match(await post('/saved/0'), { status: 201 })
  t.match(bank.log.filter(({ outcome }) => outcome !== undefined), [{ outcome: 'committed', system: /^\d+$/, timeline: '00000001' }])
}, onlyQueue(onlyDirect(t, 'a pooler may lead to another server'), 'each transaction has a connection of its own') as Test)

test('an ordinary role may ask', { register: false }, async (t, bank) => {
  await postgres.query('CREATE ROLE clerk LOGIN; GRANT INSERT, SELECT ON entry TO clerk')
  const { proxy, post } = await prepare(t, { ...bank, plugin: { ...bank.plugin, role: 'clerk' } })
  proxy.cutOn(/^commit$/i, { after: true })
  t.match(await post('/saved/0'), { status: 201 })
})

test('resolveCommits is off by default: the outcome is unknown', { register: false }, async (t, { app, plugin, listen }) => {
  const proxy = await startPgProxy(t, postgres)
  await app.register(pgScope, { ...plugin, connectionString: proxy.connectionString(postgres.connectionString) })
  app.post('/', async (request) => request.db.query(insert, ['perhaps', 0]))
  const port = await listen()
  proxy.cutOn(/^commit$/i, { after: true })
  t.match(await send(port, { method: 'POST' }), { status: 500, body: /FST_PG_SCOPE_COMMIT_UNKNOWN/ })
  t.notOk(proxy.executed.some((text) => text.includes('xact_id')))
})
