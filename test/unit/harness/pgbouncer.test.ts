import { spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { once } from 'node:events'
import { dirname } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import tap, { type Test } from 'tap'
import { eachPgBouncer, findPgBouncers, startPgBouncer, type TestPgBouncer } from '../../../harness/pgbouncer.ts'
import { configuration, parse } from '../../../harness/pgbouncer/configuration.ts'
import { compareVersions } from '../../../harness/pgbouncer/programs.ts'
import { selectPgBouncers } from '../../../harness/pgbouncer/selection.ts'
import { startTestPostgres } from '../../../harness/postgres.ts'
import { typeScript } from '../../../harness/typescript.ts'
import { waitFor } from '../../../harness/wait-for.ts'

const server = await startTestPostgres(tap, { user: 'app owner', password: 'p@ss:w/rd?#% \'"' })

async function connect (t: Test, connectionString: string) {
  const client = new pg.Client({ connectionString })
  client.on('error', () => {})
  t.teardown(() => { client.end().catch(() => {}) })
  await client.connect()
  return client
}

async function backend (client: pg.Client): Promise<number> {
  return (await client.query('SELECT pg_backend_pid() AS pid')).rows[0].pid
}

async function config (pgBouncer: TestPgBouncer): Promise<Record<string, string>> {
  return Object.fromEntries((await pgBouncer.admin('SHOW CONFIG')).map(({ key, value }) => [key, value]))
}

/** A zombie has ended as well; its parent is whoever adopts processes here. */
function runs (pid: number | undefined): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}

tap.test('versions are compared by number', async t => {
  t.ok(compareVersions('1.9', '1.18.0') < 0)
  t.ok(compareVersions('1.26.1', '1.26') > 0)
  t.equal(compareVersions('1.24', '1.24.0'), 0)
  const versions = (await findPgBouncers()).map(({ version }) => version)
  t.same(versions, [...versions].sort(compareVersions))
})

tap.test('what is missing is known where it has to be there', async t => {
  const installed = await findPgBouncers()
  t.same(await selectPgBouncers({}), { programs: installed, missing: [] })
  t.same(await selectPgBouncers({ PG_SCOPE_PGBOUNCER: '' }), { programs: installed, missing: [] })
  t.same(await selectPgBouncers({ PG_SCOPE_PGBOUNCER: '0.9' }), { programs: [], missing: ['PgBouncer 0.9'] })
  t.same((await selectPgBouncers({ PG_SCOPE_PGBOUNCER: '1' })).programs, installed)
  const { programs, missing } = await selectPgBouncers({ CI: 'true' })
  t.equal(missing.includes('PgBouncer 1.18'), !programs.some(({ version }) => version.startsWith('1.18.')))
})

tap.test('a setting that the version does not know is left out', async t => {
  const ini = '; Since 1.21. New\n; and good.\nnew = 1\n\n; Since long ago.\nold = a b\n'
  t.same([...parse(`[pgbouncer]\n${ini}`, '1.18.0').pgbouncer], [['old', 'a b']])
  t.same([...parse(`[pgbouncer]\n${ini}`, '1.21.0').pgbouncer], [['new', '1'], ['old', 'a b']])
  t.throws(() => parse('[pgbouncer]\nold', '1.18.0'), /docs\/pgbouncer.ini: old/)
  const upstream = { host: '127.0.0.2', port: 7 }
  t.match(configuration('1.18.0', upstream, { pool_mode: 'session' }), /^\* = host=127\.0\.0\.2 port=7$.*^pool_mode = session$/ms)
  t.notMatch(configuration('1.18.0', upstream, {}), /max_prepared_statements/)
  t.match(configuration('1.24.1', upstream, {}), /max_prepared_statements = 200/)
})

await eachPgBouncer(tap, async (t, program) => {
  t.test('is configured as docs/pgbouncer.ini recommends', async t => {
    const pgBouncer = await startPgBouncer(t, server, { program })
    t.equal(pgBouncer.version, program.version)
    const replaced = ['listen_port', 'auth_file', 'admin_users']
    const recommended = parse(readFileSync(new URL('../../../docs/pgbouncer.ini', import.meta.url), 'utf8'), program.version).pgbouncer
    const actual = await config(pgBouncer)
    for (const [key, value] of recommended) if (!replaced.includes(key)) t.equal(actual[key], value, key)
    t.equal(actual.unix_socket_dir, '')
  })

  t.test('transaction mode: two clients take turns on one server connection', async t => {
    const pgBouncer = await startPgBouncer(t, server, { program, settings: { default_pool_size: 1 } })
    const [one, two] = [await connect(t, pgBouncer.connectionString), await connect(t, pgBouncer.connectionString)]
    t.equal(await backend(one), await backend(two))
    t.same((await one.query('SELECT $1 || current_user AS name', ['I am '])).rows, [{ name: 'I am app owner' }])
    await two.query('BEGIN')
    const waiting = one.query('SELECT 1')
    t.equal(await Promise.race([waiting, sleep(100, 'waits')]), 'waits')
    await two.query('COMMIT')
    t.equal((await waiting).rowCount, 1)
  })

  t.test('session mode: a client keeps its server connection', async t => {
    const pgBouncer = await startPgBouncer(t, server, { program, poolMode: 'session' })
    const [one, two] = [await connect(t, pgBouncer.connectionString), await connect(t, pgBouncer.connectionString)]
    await one.query("SET work_mem = '7MB'")
    t.not(await backend(one), await backend(two))
    t.same((await one.query('SHOW work_mem')).rows, [{ work_mem: '7MB' }])
    t.notSame((await two.query('SHOW work_mem')).rows, [{ work_mem: '7MB' }])
  })

  t.test('the admin database is for the helper, not for the application', async t => {
    const pgBouncer = await startPgBouncer(t, server, { program })
    const url = new URL(pgBouncer.connectionString)
    url.pathname = 'pgbouncer'
    await t.rejects(connect(t, url.href), { code: '08P01' })
    await connect(t, pgBouncer.connectionString)
    await pgBouncer.set('max_client_conn', 1)
    await t.rejects(connect(t, pgBouncer.connectionString), { message: /max_client_conn/ })
    t.match(await pgBouncer.admin('SHOW VERSION'), [{ version: `PgBouncer ${program.version}` }], 'the helper still gets in')
    await t.rejects(pgBouncer.admin('SHOW NONSENSE'))
  })

  t.test('pause() waits for the open transaction; then statements wait for resume()', async t => {
    const pgBouncer = await startPgBouncer(t, server, { program })
    const [one, two] = [await connect(t, pgBouncer.connectionString), await connect(t, pgBouncer.connectionString)]
    await one.query('BEGIN')
    await one.query('SELECT 1')
    const pausing = pgBouncer.pause()
    t.equal(await Promise.race([pausing, sleep(100, 'waits')]), 'waits')
    await one.query('COMMIT')
    await pausing
    const waiting = two.query('SELECT 1')
    t.equal(await Promise.race([waiting, sleep(100, 'waits')]), 'waits')
    await pgBouncer.resume()
    t.equal((await waiting).rowCount, 1)
  })

  t.test('reconnect() brings another server connection', async t => {
    const pgBouncer = await startPgBouncer(t, server, { program, settings: { default_pool_size: 1 } })
    const client = await connect(t, pgBouncer.connectionString)
    const before = await backend(client)
    await pgBouncer.reconnect()
    t.not(await backend(client), before)
  })

  t.test('set() changes a setting now and for later starts', async t => {
    const pgBouncer = await startPgBouncer(t, server, { program })
    await pgBouncer.set('query_wait_timeout', 3)
    t.match(await config(pgBouncer), { query_wait_timeout: '3' })
    await pgBouncer.stop()
    await pgBouncer.set('client_idle_timeout', 4)
    await pgBouncer.start()
    t.match(await config(pgBouncer), { query_wait_timeout: '3', client_idle_timeout: '4' })
  })

  t.test('reload() lets in a role that was made after the start', async t => {
    const pgBouncer = await startPgBouncer(t, server, { program })
    await server.query("CREATE ROLE late LOGIN PASSWORD 'late'")
    t.teardown(() => server.query('DROP ROLE late'))
    const url = new URL(pgBouncer.connectionString)
    url.username = url.password = 'late'
    await t.rejects(connect(t, url.href))
    await pgBouncer.reload()
    t.same((await (await connect(t, url.href)).query('SELECT current_user AS name')).rows, [{ name: 'late' }])
  })

  t.test('restart() and kill9() end the connections; the port stays the same', async t => {
    const pgBouncer = await startPgBouncer(t, server, { program })
    for (const [name, end] of Object.entries({ restart: pgBouncer.restart, kill9: pgBouncer.kill9 })) {
      const { pid } = pgBouncer
      const client = await connect(t, pgBouncer.connectionString)
      await client.query('BEGIN')
      const lost = new Promise<void>(resolve => client.once('end', resolve))
      await end()
      await lost
      t.notOk(runs(pid), name)
      if (name === 'kill9') {
        t.equal(pgBouncer.pid, undefined)
        await t.rejects(connect(t, pgBouncer.connectionString), { code: 'ECONNREFUSED' })
        await pgBouncer.start()
      }
      await t.rejects(pgBouncer.start(), /is running/)
      t.equal(await backend(await connect(t, pgBouncer.connectionString)) > 0, true)
    }
    t.equal((await pgBouncer.log()).match(/process up/g)?.length, 3)
  })

  t.test('stop(\'SIGINT\') lets the open transaction finish', async t => {
    const pgBouncer = await startPgBouncer(t, server, { program })
    const client = await connect(t, pgBouncer.connectionString)
    await client.query('BEGIN')
    const stopping = pgBouncer.stop('SIGINT')
    await sleep(100)
    await client.query('COMMIT')
    await stopping
    t.equal(pgBouncer.pid, undefined)
  })

  t.test('what it says is shown when it does not start, and when it ends by itself', async t => {
    await t.rejects(startPgBouncer(t, server, { program, settings: { pool_mode: 'nonsense' } }), /did not start \(exit code 1\).*nonsense/s)
    const pgBouncer = await startPgBouncer(t, server, { program })
    const errors = t.capture(console, 'error')
    process.kill(pgBouncer.pid as number, 'SIGKILL')
    await waitFor(() => pgBouncer.pid === undefined)
    t.match(errors().map(({ args }) => args[0]).join(), /ended by itself \(SIGKILL\).*process up/s)
  })

  t.test('its teardown leaves no process, no folder and no server connection', async t => {
    const teardowns: Array<() => unknown> = []
    const pgBouncer = await startPgBouncer({ teardown: callback => teardowns.push(callback) }, server, { program })
    const { pid } = pgBouncer
    const client = await connect(t, pgBouncer.connectionString)
    await client.query('BEGIN')
    const folder = dirname((await config(pgBouncer)).auth_file as string)
    t.ok(existsSync(folder))
    pgBouncer.stop('SIGINT')
    for (const teardown of teardowns) await teardown()
    t.notOk(runs(pid))
    t.notOk(existsSync(folder))
    await waitFor(async () => (await server.activity()).length === 0)
  })

  t.test('kill -9 of the program that started it ends it and removes its folder', async t => {
    const file = fileURLToPath(new URL('../../../harness/pgbouncer/parent.ts', import.meta.url))
    const { host, port, user, password, database } = server
    const argument = JSON.stringify({ program, server: { host, port, user, password, database } })
    const parent = spawn(process.execPath, [...typeScript, file, argument], { stdio: ['ignore', 'pipe', 'inherit'] })
    t.teardown(() => parent.kill('SIGKILL'))
    const [line] = await once(createInterface({ input: parent.stdout }), 'line')
    const { pid, connectionString, authFile } = JSON.parse(line)
    const client = await connect(t, connectionString)
    await client.query('SELECT 1')
    t.ok(runs(pid))
    parent.kill('SIGKILL')
    await waitFor(() => !runs(pid) && !existsSync(dirname(authFile)))
  })
})
