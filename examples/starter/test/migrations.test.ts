import pgScope, { type Engine } from 'fastify-pg-scope'
import { startPostgres } from 'fastify-pg-scope/embedded'
import Fastify from 'fastify'
import t from 'tap'
import { migrations } from '../src/migrations/index.ts'
import { migrate } from '../src/migrations/migrate.ts'
import { openBank } from './helpers/bank.ts'

const names = migrations.map(({ name }) => name)

t.test('migrations', async t => {
  const postgres = await startPostgres({ database: 'bank', settings: { default_transaction_isolation: 'serializable' } })
  t.teardown(() => postgres.stop())
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(pgScope, { connectionString: postgres.connectionString })
  const db: Engine = app.db

  t.test('one that fails leaves the schema as it was', async t => {
    const broken = [...migrations, { name: '999-broken', sql: 'create table extra (); select 1 / 0' }]
    await t.rejects(migrate(db, broken), { code: '22012' })
    t.same((await db.query("select from pg_tables where schemaname = 'public'")).rows, [])
  })

  t.test('many that start at once run each migration once', async t => {
    const runs = await Promise.all(Array.from({ length: 8 }, () => migrate(db, migrations)))
    t.same(runs.filter(applied => applied.length > 0), [names])
    t.same((await db.query('select name from migrations order by name')).rows.map(({ name }) => name), names)
  })

  t.test('a second run does nothing, and a new migration is found', async t => {
    t.same(await migrate(db, migrations), [])
    t.same(await migrate(db, [...migrations, { name: '003-note', sql: 'alter table transfers add note text' }]), ['003-note'])
    t.same(await migrate(db, migrations), [], 'an older version of the app starts on a newer schema')
  })

  t.test('several apps start on one database', async t => {
    const env = { DATABASE_URL: postgres.connectionString }
    const apps = await Promise.all([openBank(t, env), openBank(t, env), openBank(t, env)])
    for (const app of apps) t.equal((await app.inject('/health')).statusCode, 200)
  })
})
