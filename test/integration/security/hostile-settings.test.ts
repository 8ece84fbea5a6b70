// Names and values of settings and roles, as an attacker would choose them.
import Fastify from 'fastify'
import t from 'tap'
import pgScope from '../../../harness/plugin.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'

const postgres = await startTestPostgres(t)
await postgres.query('CREATE TABLE kept (id int); CREATE ROLE visitor; CREATE ROLE "a""; DROP TABLE kept; --"; GRANT ALL ON kept TO visitor')

const hostile = [
  '\'; DROP TABLE kept; --', '" OR ""="', '\\', '\\\'', '$1', '$$', '%s %1$s', ';', '\n\r\t', '\u2028', '\u{1F600}', '{"a":1}', ' ', 'x'.repeat(10_000), '\u0001', '--', '/*'
]

t.test('every value reaches its setting as it is, and is never a part of SQL', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(pgScope, { connectionString: postgres.connectionString })
  app.post<{ Body: { value: string } }>('/', { config: { db: { settings: (request) => ({ 'app.value': (request.body as { value: string }).value }) } } }, async ({ db }) => (
    (await db.query('SELECT current_setting(\'app.value\') AS value')).rows[0]))
  for (const value of hostile) t.same((await app.inject({ method: 'POST', url: '/', payload: { value } })).json(), { value })
  const { statusCode, body } = await app.inject({ method: 'POST', url: '/', payload: { value: 'a\0b' } })
  t.ok(statusCode >= 400, 'NUL cannot be sent to PostgreSQL')
  t.notMatch(body, 'a\0b')
  t.equal((await postgres.query('SELECT FROM kept')).rowCount, 0)
})

t.test('a name is a name: SQL in it is refused, and the statements of the handler do not run', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(pgScope, { connectionString: postgres.connectionString })
  for (const name of ['app.x\'; DROP TABLE kept; --', 'app.x; DROP TABLE kept', 'no dot', 'app."x"', '', '__proto__', 'constructor', 'app.x\0']) {
    const settings = Object.defineProperty({}, name, { value: '1', enumerable: true }) as Record<string, string>
    await t.rejects(app.db.scope((db) => db.query('INSERT INTO kept VALUES (1)'), { settings }), name === '' ? 'an empty name' : name)
  }
  t.equal((await postgres.query('SELECT FROM kept')).rowCount, 0)
})

t.test('a role is an identifier: quotation marks in it are part of its name', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(pgScope, { connectionString: postgres.connectionString })
  const who = (role: string): Promise<string> => app.db.scope(async (db) => (await db.query('SELECT current_user AS who')).rows[0].who, { role })
  t.equal(await who('visitor'), 'visitor')
  t.equal(await who('a"; DROP TABLE kept; --'), 'a"; DROP TABLE kept; --')
  for (const role of ['visitor; DROP TABLE kept', 'visitor"; DROP TABLE kept; --', '\'visitor\'', 'visitor\0']) await t.rejects(who(role), role)
  t.equal((await postgres.query('SELECT FROM kept')).rowCount, 0)
})
