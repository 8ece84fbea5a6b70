import { fileURLToPath } from 'node:url'
import t from 'tap'
import { startPgProxy } from '../../../harness/pg-proxy.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { runScript } from '../../../harness/script.ts'
import { onlyDirect, onlyQueue } from '../../../harness/variant.ts'
import { waitFor } from '../../../harness/wait-for.ts'

const db = await startTestPostgres(t, { settings: { max_connections: 12, superuser_reserved_connections: 0 } })
const plugin = fileURLToPath(new URL('../../../harness/plugin.ts', import.meta.url))
const clients = fileURLToPath(new URL('../../../lib/pg/index.ts', import.meta.url))

/** Runs a script with `app`, `pgScope` and `url`; the process has to end by itself. */
async function run (script: string, url = db.connectionString, limit = 30000) {
  const source = `
    import Fastify from 'fastify'
    import pgScope from ${JSON.stringify(plugin)}
    const url = process.env.TEST_URL
    const app = Fastify()
    ${script}
    console.log('script done')`
  return await runScript(source, { url, limit })
}

const ended = { out: /script done/, code: 0, signal: null }

t.test('a process ends by itself after close(): after work, errors, timeouts and waiting', async (t) => {
  const result = await run(`
    await app.register(pgScope, { connectionString: url, pool: { max: 2, min: 1, acquireTimeout: 60000 }, closeTimeout: 60000 })
    app.get('/', async (request) => (await request.db.query('SELECT 1 AS one')).rows[0])
    await app.listen({ port: 0 })
    const answer = await fetch('http://127.0.0.1:' + app.server.address().port)
    console.log(await answer.text())
    await app.db.scope((session) => session.query('SELECT nonsense')).catch((error) => console.log(error.code))
    await Promise.all(Array.from({ length: 10 }, () => app.db.query('SELECT 1')))
    await app.db.lease((client) => client.query('SELECT 1'))
    await app.db.ping()
    await app.close()`)
  t.match(result, ended, result.errors)
  t.match(result.out, /\{"one":1\}\n42703\n/)
})

t.test('a process ends by itself after close() with a handler that never ends', async (t) => {
  const result = await run(`
    await app.register(pgScope, { connectionString: url, closeTimeout: 200 })
    app.get('/', async (request) => { await request.db.query('SELECT 1'); return new Promise(() => {}) })
    await app.listen({ port: 0 })
    const answer = fetch('http://127.0.0.1:' + app.server.address().port)
    while (app.db.stats().inUse === 0) await new Promise((resolve) => setTimeout(resolve, 5))
    await app.close()
    console.log((await answer).status)`)
  t.match(result, ended, result.errors)
  t.match(result.out, /^503$/m)
})

for (const [name, options] of [
  ['an option is wrong', '{ connectionString: url, pool: { max: -1 } }'],
  ['the password is wrong', '{ connectionString: url }'],
  ['the server has no room for pool.min', '{ connectionString: url, pool: { min: 15, max: 20 } }']
] as const) {
  const suite = name === 'the server has no room for pool.min' ? onlyQueue(onlyDirect(t, 'PgBouncer has room'), 'min is for kept connections') : t
  suite.test(`a process ends by itself when the boot fails because ${name}, without close()`, async (t) => {
    const url = new URL(db.connectionString)
    if (name === 'the password is wrong') url.password = 'wrong'
    const result = await run(`
      app.register(pgScope, ${options})
      await app.ready().then(() => { throw new Error('the app has booted') }, (error) => console.log(error.code))`, url.href)
    t.match(result, ended, result.errors)
    t.match(result.out, /^FST_PG_SCOPE_/m)
  })
}

t.test('a process ends by itself after close() on a network that drops everything', async (t) => {
  const proxy = await startPgProxy(t, db)
  const pending = run(`
    await app.register(pgScope, { connectionString: url, pool: { max: 3, acquireTimeout: 60000 }, closeTimeout: 200 })
    const busy = app.db.session()
    const idle = app.db.session()
    await Promise.all([busy.query('SELECT 1'), idle.query('SELECT 1')])
    await idle.close()
    // The parent waits for this statement, and drops its answer or not.
    busy.query('SELECT 3').catch(() => {})
    await new Promise((resolve) => setTimeout(resolve, 4000))
    const lost = busy.query('SELECT 2').catch((error) => console.log(error.code))
    await app.close()
    await lost`, proxy.connectionString(db.connectionString))
  await waitFor(async () => {
    return (await db.activity()).some(({ state, query }) => state === 'idle in transaction' && query === 'SELECT 3')
  }, { timeout: 30000, message: 'one connection is busy, one idle' })
  proxy.pause({ drop: true })
  const result = await pending
  t.match(result, ended, result.errors)
  t.match(result.out, /^FST_PG_SCOPE_CLOSED$/m)
})

t.test('a process with nothing left to do ends by itself once its last connection has closed, without close()', async (t) => {
  // Long before acquireTimeout, or run() gives up.
  const result = await run(`
    await app.register(pgScope, { connectionString: url, pool: { max: 2, idleTimeout: 50, acquireTimeout: 60000 }, closeTimeout: 60000 })
    await app.db.scope((session) => session.query('SELECT 1'))
    await app.db.query('SELECT 1')
    await Promise.all(Array.from({ length: 5 }, () => app.db.query('SELECT 1')))`, undefined, 50000)
  t.match(result, ended, result.errors)
})

t.test('a process with nothing left to do does not wait for the limit of a library\'s call that waits for its turn', async (t) => {
  const result = await run(`
    const { clientOf } = await import(${JSON.stringify(clients)})
    await app.register(pgScope, { connectionString: url, pool: { max: 2, idleTimeout: 50 } })
    const session = app.db.session()
    clientOf(session).query('BEGIN')
    clientOf(session).query('BEGIN').catch((error) => console.log(error.code))`)
  t.match(result, ended, result.errors)
  t.notMatch(result.out, /FST_PG_SCOPE/, 'nor is the call rejected')
})
