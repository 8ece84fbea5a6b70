import { chmod, chown, mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import pg from 'pg'
import t from 'tap'
import { startPostgres, type EmbeddedPostgres } from '../../../lib/embedded/index.ts'
import { temporaryFolder } from '../../../harness/folders.ts'

const root = process.getuid?.() === 0

/** The user that root's server runs as has to get through. */
async function openFolder (t: Parameters<typeof temporaryFolder>[0]): Promise<string> {
  const folder = await temporaryFolder(t)
  await chmod(folder, 0o755)
  return folder
}

async function query (postgres: EmbeddedPostgres, text: string) {
  const client = new pg.Client({ connectionString: postgres.connectionString })
  await client.connect()
  return await client.query(text).finally(() => client.end())
}

t.test('a named data folder keeps its data and its password for the next start', async t => {
  const dataFolder = join(await openFolder(t), 'my data')
  const first = await startPostgres({ dataFolder, database: 'shop' })
  await query(first, 'CREATE TABLE item (id int)')
  t.same((await query(first, 'SHOW fsync')).rows, [{ fsync: 'on' }])
  await t.rejects(startPostgres({ dataFolder }), { code: 'FST_PG_SCOPE_EMBEDDED', message: /Another server is running in the data folder/ })
  t.equal((await query(first, 'SELECT FROM item')).rowCount, 0, 'the refused start has not harmed the first')
  await first.stop()

  t.equal((await stat(join(dataFolder, 'pg-scope.json'))).mode & 0o777, 0o600)
  const second = await startPostgres({ dataFolder, database: 'shop' })
  t.teardown(() => second.stop())
  t.equal(second.password, first.password)
  t.equal((await query(second, 'SELECT FROM item')).rowCount, 0)
  await second.stop()

  await t.rejects(startPostgres({ dataFolder, password: 'another' }), { code: 'FST_PG_SCOPE_EMBEDDED', message: /password authentication failed/ })
  await t.rejects(startPostgres({ dataFolder, user: 'someone' }), { code: 'FST_PG_SCOPE_EMBEDDED', message: /which password 'someone' has/ })
  await rm(join(dataFolder, 'pg-scope.json'))
  await t.rejects(startPostgres({ dataFolder }), { code: 'FST_PG_SCOPE_EMBEDDED', message: /Give it with the option 'password'/ })
  await (await startPostgres({ dataFolder, password: first.password })).stop()
})

t.test('a cluster of another major version is refused, and stays as it is', async t => {
  const dataFolder = join(await openFolder(t), 'data')
  await (await startPostgres({ dataFolder, durable: false })).stop()
  await writeFile(join(dataFolder, 'PG_VERSION'), '12\n')
  await t.rejects(startPostgres({ dataFolder }), { code: 'FST_PG_SCOPE_EMBEDDED', message: /made by PostgreSQL 12; .* Install the version that made it/ })
  t.equal(await readFile(join(dataFolder, 'PG_VERSION'), 'utf8'), '12\n')
})

t.test('a folder that holds something else is refused, and stays as it is', async t => {
  const dataFolder = await openFolder(t)
  await writeFile(join(dataFolder, 'notes.txt'), 'mine')
  await t.rejects(startPostgres({ dataFolder }), { code: 'FST_PG_SCOPE_EMBEDDED', message: /not empty \(notes.txt\)/ })
  t.equal(await readFile(join(dataFolder, 'notes.txt'), 'utf8'), 'mine')
})

t.test('a data folder that cannot be made is reported', async t => {
  const folder = await openFolder(t)
  await writeFile(join(folder, 'file'), '')
  await t.rejects(startPostgres({ dataFolder: join(folder, 'file', 'data') }), { code: 'FST_PG_SCOPE_EMBEDDED', message: /cannot be made: ENOTDIR/ })
})

t.test('root: a data folder that the server\'s user cannot reach is reported', { skip: !root && 'not root' }, async t => {
  const closed = await temporaryFolder(t)
  await t.rejects(startPostgres({ dataFolder: join(closed, 'data') }), { code: 'FST_PG_SCOPE_EMBEDDED', message: /cannot enter the data folder/ })
})

t.test('root: a cluster that belongs to root is not taken from it', { skip: !root && 'not root' }, async t => {
  const dataFolder = await openFolder(t)
  await writeFile(join(dataFolder, 'PG_VERSION'), '18\n')
  await t.rejects(startPostgres({ dataFolder }), { code: 'FST_PG_SCOPE_EMBEDDED', message: /belongs to root. Give it away: chown -R/ })
  t.equal((await stat(dataFolder)).uid, 0)
})

t.test('root: the server runs as the owner of the data folder', { skip: !root && 'not root' }, async t => {
  const dataFolder = join(await openFolder(t), 'data')
  await mkdir(dataFolder)
  const daemon = 1
  await chown(dataFolder, daemon, daemon)
  const postgres = await startPostgres({ dataFolder, durable: false })
  t.teardown(() => postgres.stop())
  t.equal((await stat(join(dataFolder, 'postmaster.pid'))).uid, daemon)
})
