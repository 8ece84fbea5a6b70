import { createServer, type AddressInfo } from 'node:net'
import { existsSync, readdirSync } from 'node:fs'
import { chmod } from 'node:fs/promises'
import { dirname } from 'node:path'
import pg from 'pg'
import t from 'tap'
import { findPackage } from '../../../lib/embedded/binaries.ts'
import { launch } from '../../../lib/embedded/launch.ts'
import { checkEmbeddedOptions } from '../../../lib/embedded/options.ts'
import { startPostgres } from '../../../lib/embedded/index.ts'
import { temporaryFolder } from '../../../harness/folders.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'

const runs = (pid: number) => {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

t.test('the connection string leads to the database that was asked for, with the login and settings that were', async t => {
  const lines: string[] = []
  const postgres = await startTestPostgres(t, {
    user: 'app owner',
    password: 'p@ss:w/rd?#% \'"',
    database: 'my "shop" %',
    settings: { work_mem: '7MB', max_connections: 33 },
    log: line => lines.push(line)
  })
  const { rows } = await postgres.query(`SELECT current_user, current_database(), current_setting('work_mem') AS work_mem,
    current_setting('max_connections') AS max_connections, current_setting('server_encoding') AS encoding, current_setting('fsync') AS fsync`)
  t.same(rows, [{ current_user: 'app owner', current_database: 'my "shop" %', work_mem: '7MB', max_connections: '33', encoding: 'UTF8', fsync: 'off' }])
  t.match(lines.join('\n'), /database system is ready to accept connections/)
})

t.test('a wrong password is refused', async t => {
  const postgres = await startTestPostgres(t)
  const { host, port, user } = postgres
  const client = new pg.Client({ host, port, user, password: 'guess', database: 'postgres' })
  await t.rejects(client.connect(), { code: '28P01' })
  await client.end()
})

t.test('stop() ends the server and removes its folder, however often it is called', async t => {
  const postgres = await startPostgres()
  const client = new pg.Client({ connectionString: postgres.connectionString })
  const lost = new Promise<Error>(resolve => client.on('error', resolve))
  await client.connect()
  await Promise.all([postgres.stop(), postgres.stop()])
  t.match(await lost, { code: '57P01' }, 'a client hears that the server was shut down')
  t.notOk(runs(postgres.pid))
  t.notOk(existsSync(dirname(postgres.dataFolder)))
  await postgres.stop()
  await t.rejects(postgres.restart(), { code: 'FST_PG_SCOPE_EMBEDDED', message: /was stopped/ })
})

t.test('await using stops the server', async t => {
  let pid: number
  {
    await using postgres = await startPostgres()
    pid = postgres.pid
    t.ok(runs(pid))
  }
  t.notOk(runs(pid))
})

t.test('restart() keeps the port and the data', async t => {
  const postgres = await startTestPostgres(t)
  await postgres.query('CREATE TABLE item (id int)')
  // A test server answers COMMIT before it has written it (synchronous_commit = off), and an immediate stop loses that.
  await postgres.query('CHECKPOINT')
  const { pid, port } = postgres
  await Promise.all([postgres.restart(), postgres.restart('immediate')])
  t.not(postgres.pid, pid)
  t.equal(postgres.port, port)
  t.notOk(runs(pid))
  t.same((await postgres.query('SELECT count(*)::int FROM item')).rows, [{ count: 0 }])
  await t.rejects(postgres.restart('slow' as never), { code: 'FST_PG_SCOPE_OPTIONS' })
})

t.test('stop() during a restart() ends the server that it brings up', async t => {
  const postgres = await startPostgres()
  await Promise.all([postgres.restart(), postgres.stop()])
  t.notOk(runs(postgres.pid))
  t.notOk(existsSync(dirname(postgres.dataFolder)))
})

t.test('a server that was killed comes back with restart(), and stops', async t => {
  const postgres = await startTestPostgres(t)
  process.kill(postgres.pid, 'SIGKILL')
  await postgres.restart()
  t.equal((await postgres.query('SELECT 1')).rowCount, 1)
})

t.test('a setting that the server refuses is reported in its own words, and nothing is left behind', async t => {
  const temporary = await temporaryFolder(t)
  await chmod(temporary, 0o1777)
  const { TMPDIR } = process.env
  process.env.TMPDIR = temporary
  t.teardown(() => {
    if (TMPDIR === undefined) delete process.env.TMPDIR
    else process.env.TMPDIR = TMPDIR
  })
  const password = 'not to be seen'
  const error = await startPostgres({ password, settings: { max_connections: 'many' } }).catch(error => error)
  t.match(error, { code: 'FST_PG_SCOPE_EMBEDDED', message: /ended at its start.*invalid value for parameter "max_connections": "many"/s })
  t.notMatch(error.message, password)
  t.same(readdirSync(temporary), [])
})

t.test('when initdb fails on the login, the password is in neither the error nor the log', async t => {
  const lines: string[] = []
  const options = checkEmbeddedOptions({ password: 'not to be seen', log: line => lines.push(line) })
  const error = await launch({ ...options, user: 'odd"name' }, findPackage).catch(error => error)
  t.match(error, { code: 'FST_PG_SCOPE_EMBEDDED', message: /initdb could not make.*syntax error/s })
  t.notMatch(error.message + lines.join(), /not to be seen/)
})

t.test('a port that is taken is named', async t => {
  const other = createServer()
  await new Promise<void>(resolve => other.listen(0, '127.0.0.1', resolve))
  t.teardown(() => other.close())
  const { port } = other.address() as AddressInfo
  await t.rejects(startPostgres({ port }), { code: 'FST_PG_SCOPE_EMBEDDED', message: new RegExp(`Port ${port} of 127.0.0.1 is taken`) })
})

t.test('a start that takes too long is given up', async t => {
  await t.rejects(startPostgres({ startTimeout: 50 }), { code: 'FST_PG_SCOPE_EMBEDDED', message: /50 ms/ })
})

t.test('the test helper counts clients but not itself, and makes databases', async t => {
  const postgres = await startTestPostgres(t)
  t.same(await postgres.activity(), [])
  const client = new pg.Client({ connectionString: await postgres.createDatabase(), application_name: 'someone' })
  await client.connect()
  t.match(await postgres.activity(), [{ application_name: 'someone', datname: 'test_1', state: 'idle' }])
  await client.end()
})
