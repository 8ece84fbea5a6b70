import { chmod, chown, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { chooseAccount } from '../lib/embedded/account.ts'
import { startJanitor } from '../lib/embedded/janitor.ts'
import { configuration, type Settings } from './pgbouncer/configuration.ts'
import { freePort } from './pgbouncer/port.ts'
import { compareVersions, findPgBouncers, type PgBouncerProgram } from './pgbouncer/programs.ts'
import { selectPgBouncers } from './pgbouncer/selection.ts'
import { makeAdmin, runAdmin, userList } from './pgbouncer/users.ts'
import { startProcess, type PoolerProcess } from './poolers/process.ts'
import { through } from './variant.ts'
import type { QueryResultRow } from 'pg'
import type { Test } from 'tap'

export { findPgBouncers, compareVersions, type PgBouncerProgram } from './pgbouncer/programs.ts'

interface TeardownTest {
  teardown (callback: () => unknown): unknown
}

/**
 * As much of a TestPostgres as is needed: `{ ...postgres, port: proxy.port }` puts a proxy between PgBouncer and it.
 */
export interface PgBouncerServer {
  host: string
  port: number
  user: string
  password: string
  database: string
}

export interface PgBouncerOptions {
  /** Default: the newest one that is installed. */
  program?: PgBouncerProgram | undefined
  /** Default 'transaction'. */
  poolMode?: 'transaction' | 'session' | undefined
  /** Any key of the section [pgbouncer]; they win over docs/pgbouncer.ini. */
  settings?: Settings | undefined
  /** It shares its port with others. */
  peers?: Peers | undefined
}

/** Several processes behind one port (so_reuseport), which pass on CancelRequests to each other. */
export interface Peers {
  /** From 1 on. */
  id: number
  port: number
  /** The folder of each one's socket, in the order of the ids. */
  folders: readonly string[]
}

export interface TestPgBouncer {
  /** Leads through PgBouncer to the server's database, as the server's user. */
  readonly connectionString: string
  readonly host: string
  readonly port: number
  /** As in '1.18.0'. */
  readonly version: string
  /** undefined while it is down. */
  readonly pid: number | undefined
  /** One command on the admin database, as SHOW POOLS or KILL. */
  admin (command: string): Promise<QueryResultRow[]>
  /** Resolves when the open transactions have ended, which it waits for. */
  pause (): Promise<void>
  resume (): Promise<void>
  /** Every server connection is closed as soon as its transaction has ended. */
  reconnect (): Promise<void>
  /** Makes it take roles and passwords that were made since it started. */
  reload (): Promise<void>
  /** Changes a setting, for later starts as well. */
  set (key: string, value: string | number): Promise<void>
  /**
   * Ends it and waits for that. Without a signal it is the immediate shutdown, by the signal that it is in this
   * version; SIGINT lets transactions finish, and SIGTERM waits for the clients to leave (from 1.23 on).
   */
  stop (signal?: NodeJS.Signals): Promise<void>
  kill9 (): Promise<void>
  /** With the same port, after stop() or kill9(). */
  start (): Promise<void>
  /** An immediate shutdown and a start. */
  restart (): Promise<void>
  /** What it has said since the first start. */
  log (): Promise<string>
}

const host = '127.0.0.1'

/** The port may be taken by another program between our look and PgBouncer's. */
const portAttempts = 5

/**
 * Starts a PgBouncer in front of a server, with docs/pgbouncer.ini, and ends it when `t` ends or this process dies.
 * Start it after the server, on the same `t` or on one inside: teardowns run in reverse order.
 */
export async function startPgBouncer (
  t: TeardownTest, server: PgBouncerServer, options: PgBouncerOptions = {}
): Promise<TestPgBouncer> {
  const program = options.program ?? (await findPgBouncers()).at(-1)
  if (program === undefined) throw new Error('PgBouncer is not installed: .ci/poolers prepares it')
  const account = await chooseAccount(undefined)
  const folder = await mkdtemp(join(tmpdir(), 'pg-scope-pgbouncer-'))
  const janitor = startJanitor(folder, account)
  const configurationFile = join(folder, 'pgbouncer.ini')
  const command = {
    title: 'PgBouncer',
    program: program.file,
    args: [configurationFile],
    log: join(folder, 'pgbouncer.log'),
    listening: 'process up:',
    account
  }
  const authFile = join(folder, 'userlist.txt')
  const admin = makeAdmin()
  const settings: Settings = { pool_mode: options.poolMode ?? 'transaction', ...options.settings }
  let port = 0
  let current: PoolerProcess | undefined

  /** Renamed into place: PgBouncer reads its auth_file whenever it sees that it has changed. */
  const write = async (file: string, text: string) => {
    const draft = `${file}.new`
    await writeFile(draft, text, { mode: 0o600 })
    if (account !== undefined) await chown(draft, account.uid, account.gid)
    await rename(draft, file)
  }
  const { peers } = options
  const configure = () => write(configurationFile, configuration(program.version, server, {
    ...settings,
    ...(peers !== undefined && { so_reuseport: 1, peer_id: peers.id }),
    listen_addr: host,
    listen_port: port,
    unix_socket_dir: peers?.folders[peers.id - 1] ?? '',
    auth_file: authFile,
    admin_users: [admin.user, settings.admin_users].filter(Boolean).join(', ')
  }, peers?.folders))
  const start = async () => {
    if (current !== undefined && current.state !== 'ended') throw new Error(`PgBouncer is ${current.state}`)
    current = startProcess(command, janitor.watch)
    await current.ready
  }
  const immediate = compareVersions(program.version, '1.23') >= 0 ? 'SIGQUIT' : 'SIGTERM'
  const stop = async (signal: NodeJS.Signals = immediate) => { await current?.end(signal) }
  const run = (command: string) => runAdmin({ host, port }, admin, command)

  t.teardown(async () => {
    await stop('SIGKILL')
    await janitor.clean()
  })
  if (account !== undefined) {
    await chmod(folder, 0o700)
    await chown(folder, account.uid, account.gid)
  }
  await write(authFile, await userList(server, admin))
  for (let attempt = 1; ; attempt++) {
    port = peers?.port ?? await freePort()
    await configure()
    try {
      await start()
      break
    } catch (error) {
      if (attempt === portAttempts || !/Address already in use/.test(String(error))) throw error
    }
  }
  const [user, password, database] = [server.user, server.password, server.database].map(encodeURIComponent)
  return {
    connectionString: `postgres://${user}:${password}@${host}:${port}/${database}`,
    host,
    port,
    version: program.version,
    get pid () { return current?.state === 'running' ? current.pid : undefined },
    admin: run,
    pause: async () => { await run('PAUSE') },
    resume: async () => { await run('RESUME') },
    reconnect: async () => { await run('RECONNECT') },
    reload: async () => {
      await write(authFile, await userList(server, admin))
      await run('RELOAD')
    },
    set: async (key, value) => {
      settings[key] = value
      await configure()
      if (current?.state === 'running') await run('RELOAD')
    },
    stop,
    kill9: () => stop('SIGKILL'),
    start,
    restart: async () => {
      await stop()
      await start()
    },
    log: () => readFile(command.log, 'utf8')
  }
}

/** Starts several on one port, each of which knows the others. Peers need PgBouncer 1.19. */
export async function startPgBouncers (
  t: TeardownTest, server: PgBouncerServer, count: number, options: PgBouncerOptions = {}
): Promise<TestPgBouncer[]> {
  const port = await freePort()
  const account = await chooseAccount(undefined)
  const folders: string[] = []
  for (let i = 0; i < count; i++) {
    const folder = await mkdtemp(join(tmpdir(), 'pg-scope-peer-'))
    t.teardown(() => rm(folder, { recursive: true, force: true }))
    if (account !== undefined) await chown(folder, account.uid, account.gid)
    folders.push(folder)
  }
  const all: TestPgBouncer[] = []
  for (let id = 1; id <= count; id++) {
    all.push(await startPgBouncer(t, server, { ...options, peers: { id, port, folders } }))
  }
  return all
}

/**
 * Runs the same tests for each PgBouncer that is selected (see selectPgBouncers). One that has to be there and is
 * not is a failure; where none has to be and none is, the tests are skipped. In a variant behind a PgBouncer they
 * are not run: `npm test` does.
 */
export async function eachPgBouncer (t: Test, fn: (t: Test, program: PgBouncerProgram) => unknown): Promise<void> {
  if (through !== 'direct') return t.comment(`not run through PgBouncer ${through} (goes through every PgBouncer by itself): ${t.name}`)
  const { programs, missing } = await selectPgBouncers()
  for (const program of programs) await t.test(`PgBouncer ${program.version}`, async t => { await fn(t, program) })
  for (const name of missing) t.fail(`${name} is not installed: .ci/poolers prepares it`)
  if (programs.length + missing.length === 0) await t.test('PgBouncer', { skip: 'PgBouncer is not installed' }, () => {})
}
