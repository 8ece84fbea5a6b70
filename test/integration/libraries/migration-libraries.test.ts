// node-pg-migrate and umzug.
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { runner } from 'node-pg-migrate'
import t from 'tap'
import { Umzug } from 'umzug'
import { clientOf, poolOf } from '../../../lib/pg/index.ts'
import { temporaryFolder } from '../../../harness/folders.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { onlyDirect } from '../../../harness/variant.ts'
import { commitAndRollBack } from './commit-and-rollback.ts'
import { startShop } from './shop.ts'

const postgres = await startTestPostgres(t)

onlyDirect(t, 'a session lock').test('node-pg-migrate runs on a leased client, and in the transaction of a request', async (t) => {
  const shop = await startShop(t, postgres)
  const { app, database } = shop
  const dir = await temporaryFolder(t)
  await writeFile(join(dir, '1_first.sql'), '-- Up Migration\nCREATE TABLE first (n int);\n-- Down Migration\nDROP TABLE first;\n')
  await writeFile(join(dir, '2_second.sql'), '-- Up Migration\nCREATE TABLE second (n int);\n-- Down Migration\nDROP TABLE second;\n')
  const migrate = (dbClient: any, more: object) => runner({ dbClient, dir, migrationsTable: 'migrations', direction: 'up', log: () => {}, ...more })
  await app.db.lease((client) => migrate(client, { count: 1 }))
  await commitAndRollBack(t, shop, async (name, request) => {
    await request.db.query('INSERT INTO person (full_name) VALUES ($1)', [name])
    const names = (await migrate(clientOf(request.db), {})).map(({ name }) => name)
    t.same(names, name === 'Alan' ? ['2_second'] : [])
    // The next request takes it back, and fails.
    if (name === 'Nobody') await migrate(clientOf(request.db), { direction: 'down', count: 2 })
  })
  const { rows } = await postgres.query('SELECT name FROM migrations ORDER BY id', undefined, database)
  t.same(rows, [{ name: '1_first' }, { name: '2_second' }])
})

t.test('umzug migrates in the transaction of a request: a migration that fails leaves nothing', async (t) => {
  const shop = await startShop(t, postgres)
  const pool = poolOf(shop.app.db)
  await pool.query('CREATE TABLE migrations (name text PRIMARY KEY)')
  const storage = {
    executed: async () => (await pool.query('SELECT name FROM migrations')).rows.map(({ name }) => name),
    logMigration: async ({ name }: { name: string }) => { await pool.query('INSERT INTO migrations VALUES ($1)', [name]) },
    unlogMigration: async ({ name }: { name: string }) => { await pool.query('DELETE FROM migrations WHERE name = $1', [name]) }
  }
  const umzugFor = (name: string) => new Umzug({
    migrations: [{ name, up: ({ context }) => context.query('INSERT INTO person (full_name) VALUES ($1)', [name]) }],
    context: pool,
    storage,
    logger: undefined
  })
  await commitAndRollBack(t, shop, (name) => umzugFor(name).up())
  t.same(await storage.executed(), ['Alan'])
})
