import { chmod, chown, mkdtemp, readdir, readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { chooseAccount } from '../lib/embedded/account.ts'
import { startJanitor } from '../lib/embedded/janitor.ts'
import { freePort } from './pgbouncer/port.ts'
import type { PgBouncerServer } from './pgbouncer.ts'
import { startProcess, type PoolerProcess } from './poolers/process.ts'
import type { PoolerProgram } from './poolers/programs.ts'

export { findPooler, type PoolerProgram } from './poolers/programs.ts'

/** A pooler other than PgBouncer in front of a server. */
export interface TestPooler {
  /** Leads through it to the server's database, as the server's user: the only one that it lets in. */
  readonly connectionString: string
  readonly host: string
  readonly port: number
  readonly version: string
  /** Ends it at once, with every client on it. */
  kill9 (): Promise<void>
  /** With the same port, after kill9(). */
  start (): Promise<void>
  log (): Promise<string>
}

const host = '127.0.0.1'

/**
 * Starts a pooler in front of a server, and ends it when `t` ends or this process dies. Start it after the server, on
 * the same `t` or on one inside: teardowns run in reverse order.
 */
export async function startPooler (
  t: { teardown (callback: () => unknown): unknown }, server: PgBouncerServer,
  { kind, version, folder: programs }: PoolerProgram
): Promise<TestPooler> {
  const account = await chooseAccount(undefined)
  const folder = await mkdtemp(join(tmpdir(), `pg-scope-${kind.name}-`))
  const janitor = startJanitor(folder, account)
  const port = await freePort()
  let current: PoolerProcess | undefined
  t.teardown(async () => {
    await current?.end(kind.stop)
    await janitor.clean()
  })
  const give = async (file: string) => { if (account !== undefined) await chown(file, account.uid, account.gid) }
  await chmod(folder, 0o700)
  await give(folder)
  const args = await kind.prepare({ folder, port, server })
  for (const name of await readdir(folder)) await give(join(folder, name))
  const command = {
    title: kind.name,
    program: join(programs, kind.name),
    args,
    env: { HOME: folder },
    log: join(folder, 'pooler.log'),
    listening: kind.listening,
    account
  }
  const start = async () => {
    current = startProcess(command, janitor.watch)
    await current.ready
  }
  await start()
  const [user, password, database] = [server.user, server.password, server.database].map(encodeURIComponent)
  return {
    connectionString: `postgres://${user}:${password}@${host}:${port}/${database}`,
    host,
    port,
    version,
    kill9: async () => { await current?.end('SIGKILL') },
    start,
    log: () => readFile(command.log, 'utf8')
  }
}
