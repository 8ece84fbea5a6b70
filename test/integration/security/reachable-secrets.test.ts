// Nothing that a user can reach from app and request has a password, or a parameter of a statement.
import Fastify from 'fastify'
import t from 'tap'
import pgScope from '../../../harness/plugin.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { startPgProxy } from '../../../harness/pg-proxy.ts'
import { inspect } from 'node:util'
import { idempotencyTable } from '../../../lib/idempotency/index.ts'

const postgres = await startTestPostgres(t, { password: 'pass-w0rd-of-the-app' })
await postgres.query(`CREATE TABLE cards (number text); ${idempotencyTable}`)
const secrets = { password: 'pass-w0rd-of-the-app', parameter: '4111-1111-secret', setting: 'tenant-secret' }

const ends = new Set<object>([Object.prototype, Function.prototype])

/** The path to a text with one of the secrets, or null. Follows properties, getters, prototypes, Map and Set. */
function pathTo (root: unknown, name: string, skip: ReadonlySet<unknown>): string | null {
  const seen = new Set<unknown>(skip)
  const queue: [unknown, string][] = [[root, name]]
  for (const [value, path] of queue) {
    if (typeof value === 'string' || Buffer.isBuffer(value)) {
      if (Object.values(secrets).some((secret) => value.includes(secret))) return path
      continue
    }
    if ((typeof value !== 'object' && typeof value !== 'function') || value === null || seen.has(value)) continue
    seen.add(value)
    if (value instanceof Map) for (const [key, each] of value) queue.push([key, `${path}.key`], [each, `${path}.get(${String(key)})`])
    if (value instanceof Set) for (const each of value) queue.push([each, `${path}.each`])
    for (let owner: object | null = value; owner !== null && !ends.has(owner); owner = Object.getPrototypeOf(owner)) {
      for (const key of Reflect.ownKeys(owner)) {
        let each: unknown
        try {
          each = (value as Record<PropertyKey, unknown>)[key]
        } catch { // a getter that refuses
          continue
        }
        queue.push([each, `${path}.${String(key)}`])
      }
    }
  }
  return null
}

for (const mode of ['transaction', 'autocommit'] as const) {
  t.test(`mode ${mode}: nothing that is reachable from the engine, a session, stats() and errors has a secret`, async (t) => {
    const lines: string[] = []
    const app = Fastify({ logger: { level: 'trace', stream: { write: (line: string) => { lines.push(line) } } } })
    t.teardown(() => app.close())
    const proxy = await startPgProxy(t, postgres)
    const connectionString = proxy.connectionString(postgres.connectionString)
    await app.register(pgScope, {
      connectionString, mode, settings: { 'app.tenant': secrets.setting }, resolveCommits: mode === 'transaction'
    })
    const check = (value: unknown, name: string): void => {
      t.equal(pathTo(value, name, new Set<unknown>([process, globalThis, app.server])), null, name)
      const text = inspect(value, { depth: 8, showHidden: true, getters: true })
      for (const [what, secret] of Object.entries(secrets)) t.notOk(text.includes(secret), `${name}: ${what}`)
    }
    const values = [secrets.parameter]
    app.post('/', async (request) => {
      const { db } = request
      const running = db.query('INSERT INTO cards VALUES ($1)', values)
      check(db, 'request.db while a statement runs')
      check(running, 'the promise of a statement')
      await running
      check(db, 'request.db')
      check(app.db, 'app.db')
      check(app.db.stats(), 'stats()')
      check(app.db.pooler, 'pooler')
      for (const [name, fails] of Object.entries({
        'a syntax error': () => db.transaction((db) => db.query('SELECTED $1', values)),
        'a missing table': () => db.transaction((db) => db.query('INSERT INTO nowhere VALUES ($1)', values)),
        'too many values': () => db.transaction((db) => db.query('SELECT 1', [...values, ...values])),
        'a value that cannot be sent': () => db.transaction((db) => db.query('SELECT $1', [{ toPostgres: () => { throw new Error('x') }, note: secrets.parameter }])),
        'values that are no array': () => db.transaction((db) => db.query('SELECT $1', secrets.parameter as never))
      })) {
        const error = await fails().then(() => null, (error) => error)
        t.ok(error, name)
        check(error, name)
      }
      return 'ok'
    })
    app.post('/lost', async ({ db }) => {
      await db.query('INSERT INTO cards VALUES ($1)', values)
      return 'ok'
    })
    const failed: unknown[] = []
    app.addHook('onError', async (_request, _reply, error) => { failed.push(error) })
    t.equal((await app.inject({ method: 'POST', url: '/' })).statusCode, 200)
    proxy.cutOn(mode === 'transaction' ? /^commit$/i : /^insert/i)
    await app.inject({ method: 'POST', url: '/lost' })
    for (const error of failed) check(error, 'the error of a request')
    for (const secret of Object.values(secrets)) t.notOk(lines.some((line) => line.includes(secret)), 'no line of the log')
  })
}

t.test('errors at startup have no password: a refused login, an unreachable server, a wrong URL', async (t) => {
  const url = new URL(postgres.connectionString)
  const urls = [
    Object.assign(new URL(url), { username: 'nobody', password: secrets.password }).href,
    Object.assign(new URL(url), { port: '1', password: secrets.password }).href,
    Object.assign(new URL(url), { pathname: '/nowhere', password: secrets.password }).href,
    `${Object.assign(new URL(url), { password: secrets.password }).href}?sslmode=wrong`,
    `postgres://user:${secrets.password}@[bad/db`
  ]
  for (const connectionString of urls) {
    const app = Fastify()
    t.teardown(() => app.close())
    app.register(pgScope, { connectionString })
    const error = await app.ready().then(() => null, (error) => error)
    t.ok(error, connectionString.replace(secrets.password, '…'))
    t.equal(pathTo(error, 'error', new Set()), null)
    t.notOk(inspect(error, { depth: 8, showHidden: true }).includes(secrets.password))
  }
})
