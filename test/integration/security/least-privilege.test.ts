// The role of the app has only the rights that docs/security.md gives it.
import { readFile } from 'node:fs/promises'
import t from 'tap'
import { openLoggedApp } from '../../../harness/logged-app.ts'
import { startPgProxy } from '../../../harness/pg-proxy.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { purgeIdempotencyKeys } from '../../../lib/idempotency/index.ts'
import { send } from '../../../harness/http-client.ts'

const page = await readFile(new URL('../../../docs/security.md', import.meta.url), 'utf8')
const [roles, tables] = Array.from(page.matchAll(/```sql\n([^]*?)```/g), ([, sql]) => sql!) as [string, string]

t.test('with the rights of the page an app does all its work, and nothing else', async (t) => {
  const postgres = await startTestPostgres(t)
  const proxy = await startPgProxy(t, postgres)
  const database = await postgres.createDatabase()
  const name = new URL(database).pathname.slice(1)
  await postgres.query(roles.replaceAll('shop', name), [], database)
  const url = new URL(database)
  Object.assign(url, { username: `${name}_app`, password: 'a-long-random-password' })
  await postgres.query(`SET ROLE ${name}_owner; ${tables}; CREATE TABLE secrets (id int); REVOKE ALL ON secrets FROM ${name}_app`, [], database)

  const connectionString = proxy.connectionString(url.href)
  const { app, listen } = await openLoggedApp(connectionString, { plugin: { resolveCommits: true, pooler: 'none' } })
  t.teardown(() => app.close())
  const options = { idempotency: true, retry: 2, isolation: 'serializable', statementTimeout: 5000, settings: { 'app.tenant': 'a' } } as const
  app.post('/', { config: { db: options } }, async ({ db }) => {
    await db.query('INSERT INTO accounts (owner) VALUES ($1)', ['ann'])
    await db.query('UPDATE accounts SET balance = 1 WHERE owner = $1', ['ann'])
    return (await db.query('SELECT owner, balance FROM accounts')).rows
  })
  app.get('/', async ({ db }) => db.stream('SELECT owner FROM accounts'))
  const port = await listen()
  const post = (key: string): ReturnType<typeof send> => send(port, { method: 'POST', headers: { 'idempotency-key': key } })
  t.match(await post('a'), { status: 200 })
  t.match(await post('a'), { status: 200, headers: { 'idempotency-replayed': 'true' } })
  t.match(await send(port), { status: 200, body: /ann/ })
  t.equal(await purgeIdempotencyKeys(app.db), 0)
  proxy.cutOn(/^commit$/i, { after: true })
  t.match(await post('b'), { status: 200 }, 'the outcome of a COMMIT without an answer is found out')

  for (const text of [
    'CREATE TABLE mine (id int)', 'CREATE TEMPORARY TABLE mine (id int)', 'CREATE SCHEMA mine', 'DROP TABLE accounts', 'ALTER TABLE accounts ADD COLUMN x int',
    'TRUNCATE accounts', 'SELECT FROM secrets', 'SELECT pg_read_file(\'/etc/passwd\')', 'COPY accounts TO PROGRAM \'true\'', 'CREATE ROLE other',
    `SET ROLE ${name}_owner`, `SET SESSION AUTHORIZATION ${postgres.user}`, 'ALTER SYSTEM SET work_mem = 1', 'CREATE DATABASE other'
  ]) {
    const error = await app.db.query(text).then(() => null, (error) => error)
    t.equal(error?.code, '42501', `${text}: ${error?.message}`)
  }
})
