import { cp, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import Fastify from 'fastify'
import pgScope from 'fastify-pg-scope'
import t from 'tap'
import { migrate } from '../../examples/starter/src/migrate.ts'
import { temporaryFolder } from '../../harness/folders.ts'
import { startTestPostgres } from '../../harness/postgres.ts'
import { openBank } from './bank.ts'

const own = join(import.meta.dirname, '../../examples/starter/migrations')
const names = ['001.do.create-accounts', '002.do.create-transfers']

t.test('migrations', async (t) => {
  const postgres = await startTestPostgres(t, { settings: { default_transaction_isolation: 'serializable' } })
  const folder = await temporaryFolder(t)
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(pgScope, { connectionString: postgres.connectionString })
  const { db } = app
  /** The app's migrations and one more. */
  const withMigration = async (name: string, sql: string): Promise<string> => {
    // What a pattern would read as a set of characters.
    const copy = join(folder, `[${name}]`, 'migrations')
    await mkdir(copy, { recursive: true })
    await cp(own, copy, { recursive: true })
    await writeFile(join(copy, `${name}.sql`), sql)
    process.chdir(join(copy, '..'))
    return copy
  }
  const before = process.cwd()
  t.teardown(() => process.chdir(before))

  t.test('one that fails leaves the schema as it was', async (t) => {
    const broken = await withMigration('999.do.broken', 'create table extra (); select 1 / 0')
    await t.rejects(migrate(db, broken), { code: '22012' })
    t.same((await db.query("select from pg_tables where schemaname = 'public'")).rows, [])
  })

  t.test('many that start at once run each migration once', async (t) => {
    const runs = await Promise.all(Array.from({ length: 8 }, () => migrate(db)))
    t.same(runs.filter((applied) => applied.length > 0), [names])
    const { rows } = await db.query('select name from migrations where version > 0 order by version')
    t.same(rows, [{ name: 'create-accounts' }, { name: 'create-transfers' }])
  })

  t.test('a second run does nothing, and a new migration is found', async (t) => {
    t.same(await migrate(db), [])
    const next = await withMigration('003.do.note', 'alter table transfers add note text')
    await writeFile(join(next, '003.undo.note.sql'), 'alter table transfers drop note')
    t.same(await migrate(db, next), ['003.do.note'])
    t.same(await migrate(db), [], 'an older version of the app starts on a newer schema')
    t.equal((await db.query('select note from transfers')).rows.length, 0, 'and leaves it as it is')
  })

  t.test('one that was changed after it ran stops the start', async (t) => {
    const changed = await withMigration('003.do.note', 'alter table transfers add remark text')
    await t.rejects(migrate(db, changed), /MD5 checksum failed/)
  })

  t.test('several apps start on one database', async (t) => {
    const env = { DATABASE_URL: postgres.connectionString }
    const apps = await Promise.all([openBank(t, env), openBank(t, env), openBank(t, env)])
    for (const app of apps) t.equal((await app.inject('/health')).statusCode, 200)
  })
})
