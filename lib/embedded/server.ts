import { readFile } from 'node:fs/promises'
import { createServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { startProgram, stopProgram, type Program } from './program.ts'
import { pgScopeError } from '../errors.ts'
import type { Account } from './account.ts'
import type { EmbeddedServerOptions } from './options.ts'

export const host = '127.0.0.1'

/** The port may be taken by another program between our look and the server's. */
const portAttempts = 5

export interface ServerFiles {
  postgres: string
  dataFolder: string
  account: Account | undefined
  /** Told of the process as soon as there is one. */
  watch (pid: number | undefined): void
}

export interface RunningServer {
  program: Program
  port: number
}

/**
 * Starts the server and waits until it takes connections.
 *
 * @param port undefined: a free one
 * @param deadline in milliseconds, as Date.now() counts
 * @throws FST_PG_SCOPE_EMBEDDED with what the server said last, if it ends or takes too long
 */
export async function startServer (
  files: ServerFiles, options: EmbeddedServerOptions, port: number | undefined, deadline: number
): Promise<RunningServer> {
  for (let attempt = 1; ; attempt++) {
    const chosen = port ?? await freePort()
    const program = startProgram(
      files.postgres, serverArguments(files.dataFolder, chosen, options), files.account, options.log
    )
    files.watch(program.pid)
    // Its number may soon be another process's.
    program.ended.then(() => files.watch(undefined))
    const state = await settle(program, files.dataFolder, deadline)
    if (state === 'ready') {
      program.hold(false)
      return { program, port: chosen }
    }
    await stopProgram(program, 'SIGQUIT')
    const portTaken = /Address already in use/.test(program.tail())
    if (portTaken && port === undefined && attempt < portAttempts) continue
    throw await failure(program, state, files.dataFolder, chosen, options)
  }
}

/** Shared memory in files of the data folder goes with it, where a killed server would leave segments in /dev/shm. */
const quick = { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off', dynamic_shared_memory_type: 'mmap' }

function serverArguments (dataFolder: string, port: number, { durable, settings }: EmbeddedServerOptions): string[] {
  const all = {
    ...(durable ? {} : quick),
    ...settings,
    listen_addresses: host,
    port,
    // Nobody needs the socket, and the default folder of it may not exist.
    unix_socket_directories: ''
  }
  return ['-D', dataFolder, ...Object.entries(all).flatMap(([name, value]) => ['-c', `${name}=${value}`])]
}

type State = 'ready' | 'ended' | 'late'

/**
 * As pg_ctl does: the eighth line of postmaster.pid is the server's state. It does not depend on the log's
 * settings, nor on who else may listen on the port. https://www.postgresql.org/docs/18/storage-file-layout.html
 */
async function settle (program: Program, dataFolder: string, deadline: number): Promise<State> {
  for (;;) {
    if (!program.running) return 'ended'
    const lines = (await readFile(join(dataFolder, 'postmaster.pid'), 'utf8').catch(() => '')).split('\n')
    if (lines[0] === String(program.pid) && lines[7]?.trim() === 'ready') return 'ready'
    if (Date.now() > deadline) return 'late'
    await sleep(10)
  }
}

async function failure (
  program: Program, state: State, dataFolder: string, port: number, options: EmbeddedServerOptions
) {
  const { code, signal, error } = await program.ended
  const said = program.tail()
  if (/lock file "postmaster\.pid" already exists/.test(said)) {
    return pgScopeError(
      'FST_PG_SCOPE_EMBEDDED',
      `Another server is running in the data folder ${dataFolder}. Stop it, or name another folder. The server ` +
        `said:\n${said}`
    )
  }
  if (/Address already in use/.test(said)) {
    return pgScopeError(
      'FST_PG_SCOPE_EMBEDDED',
      `Port ${port} of ${host} is taken. Leave the option 'port' out for a free one. The server said:\n${said}`
    )
  }
  const what = state === 'late'
    ? `was not ready after ${options.startTimeout} ms`
    : `ended at its start (${signal ?? `exit code ${code}`})`
  return pgScopeError('FST_PG_SCOPE_EMBEDDED', `PostgreSQL ${what}. ${error?.message ?? `It said:\n${said}`}`, error)
}

async function freePort (): Promise<number> {
  const probe = createServer()
  await new Promise<void>((resolve, reject) => probe.once('error', reject).listen(0, host, resolve))
  const { port } = probe.address() as AddressInfo
  await new Promise(resolve => probe.close(resolve))
  return port
}
