// What a developer logs or prints shows no password and no value of a setting.
import { inspect } from 'node:util'
import Fastify, { type FastifyRequest } from 'fastify'
import t from 'tap'
import pgScope from '../../../harness/plugin.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'

const postgres = await startTestPostgres(t)
const password = decodeURIComponent(new URL(postgres.connectionString).password)
const values = ['value-of-the-app', 'value-of-the-route', 'value-of-the-request', 'value-of-the-scope']
const [ofApp, ofRoute, ofRequest, ofScope] = values as [string, string, string, string]

/** What inspect() and JSON.stringify() show of a value, getters and hidden properties included. */
function shown (value: unknown): string {
  const json = (): string => {
    try {
      return JSON.stringify(value) ?? ''
    } catch (error) { // a circular structure
      return String(error)
    }
  }
  return [
    inspect(value, { depth: 12, maxArrayLength: 100, maxStringLength: 2000 }),
    inspect(value, { depth: 8, getters: true, maxArrayLength: 100, maxStringLength: 2000 }),
    json()
  ].join('\n')
}

for (const mode of ['transaction', 'autocommit'] as const) {
  t.test(`the app, a request and their sessions show no value of a setting and no password, in mode ${mode}`, async t => {
    const lines: string[] = []
    const app = Fastify({ logger: { level: 'trace', stream: { write: (line: string) => { lines.push(line) } } } })
    t.teardown(() => app.close())
    await app.register(pgScope, { connectionString: postgres.connectionString, mode, settings: { 'app.one': ofApp } })
    const check = (value: unknown, what: string): void => {
      const text = shown(value)
      for (const secret of [password, ...values]) t.notOk(text.includes(secret), what)
    }
    const work = async (request: FastifyRequest): Promise<object> => {
      const { db } = request
      check(db, 'request.db, unused')
      const { rows } = await db.query("SELECT current_setting('app.one') AS one, current_setting('app.two', true) AS two")
      check(db, 'request.db')
      check(app.db, 'app.db while a request runs')
      await db.transaction(async (inner) => {
        await inner.query('SELECT 1')
        check(inner, 'the session of transaction(fn)')
      })
      request.log.info({ db, engine: app.db }, 'logged')
      const error = await db.transaction((inner) => inner.query('SELECT 1/0')).catch((error) => error)
      check(error, 'an error of a statement')
      return rows[0]
    }
    app.get('/static', { config: { db: { settings: { 'app.two': ofRoute } } } }, work)
    app.get('/function', { config: { db: { settings: () => ({ 'app.two': ofRequest }) } } }, async (request) => {
      const rows = await work(request)
      check(request, 'a request')
      return rows
    })
    t.same((await app.inject('/static')).json(), { one: ofApp, two: ofRoute })
    t.same((await app.inject('/function')).json(), { one: ofApp, two: ofRequest })
    await app.db.scope(async (session) => {
      await session.query('SELECT 1')
      check(session, 'the session of a scope')
    }, { settings: { 'app.two': ofScope }, mode })
    check(app.db, 'app.db')
    check(app.db.stats(), 'stats()')
    await app.db.query('SELECT nonsense').catch((error) => check(error, 'an error of app.db.query()'))
    t.match(lines.join(''), 'logged')
    for (const secret of [password, ...values]) t.notOk(lines.join('').includes(secret), 'the log')
  })
}
