import { randomBytes } from 'node:crypto'
import { chownSync, mkdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { chooseAccount, type Account } from './account.ts'
import { prepareBinaries } from './binaries.ts'
import { type MakeCluster, prepareDataFolder, runInitdb } from './data-folder.ts'
import { ensureDatabase } from './database.ts'
import { type Janitor, startJanitor } from './janitor.ts'
import { runProgram, stopProgram } from './program.ts'
import { host, startServer, type RunningServer, type ServerFiles } from './server.ts'
import { exposeDetails, pgScopeError } from '../errors.ts'
import type { EmbeddedPostgres } from './embedded-postgres.ts'
import type { EmbeddedServerOptions } from './options.ts'

/** @param findPackage where the programs of this platform are installed */
export async function launch (
  options: EmbeddedServerOptions, findPackage: () => string, makeCluster: MakeCluster = runInitdb
): Promise<EmbeddedPostgres> {
  if (process.platform === 'win32') {
    throw pgScopeError('FST_PG_SCOPE_EMBEDDED', 'startPostgres() does not run on Windows; it does in WSL')
  }
  const deadline = Date.now() + options.startTimeout
  const packageFolder = findPackage()
  const account = await chooseAccount(options.dataFolder)
  const { scratch, janitor } = await makeScratch(account)
  let server: RunningServer | undefined
  try {
    const dataFolder = options.dataFolder ?? join(scratch, 'data')
    const binaries = await prepareBinaries(packageFolder, scratch, account)
    const login = await prepareDataFolder(dataFolder, options, {
      binaries, account, scratch, janitor, deadline, makeCluster
    })
    const files: ServerFiles = { postgres: binaries.postgres, dataFolder, account, watch: janitor.watch }
    server = await startServer(files, options, options.port, deadline)
    await ensureDatabase({ host, port: server.port }, login, options.database)
    return handle(server, files, options, login, janitor.clean)
  } catch (error) {
    if (server !== undefined) await stopProgram(server.program, 'SIGINT')
    await janitor.clean()
    throw error
  }
}

/**
 * A private folder of the account, removed at the end: for the data if no folder is named, and for what the
 * programs need. Whoever removes it is there before it is, for this process may be ended at any moment. The
 * temporary folder may be one that only root can enter, so /tmp is tried as well.
 */
async function makeScratch (account: Account | undefined): Promise<{ scratch: string, janitor: Janitor }> {
  for (const parent of new Set([tmpdir(), '/tmp'])) {
    // To remove a folder takes the right to write to its parent.
    if (account !== undefined &&
      (await runProgram('/bin/sh', ['-c', 'cd -- "$1" && [ -w . ]', 'sh', parent], account)).code !== 0) continue
    const scratch = join(parent, `pg-scope-${randomBytes(6).toString('hex')}`)
    const janitor = startJanitor(scratch, account)
    try {
      mkdirSync(scratch, { mode: 0o700 })
      if (account !== undefined) chownSync(scratch, account.uid, account.gid)
      return { scratch, janitor }
    } catch {
      await janitor.clean()
    }
  }
  const who = account === undefined ? 'this process' : account.name
  throw pgScopeError(
    'FST_PG_SCOPE_EMBEDDED',
    `There is no temporary folder that ${who} can use: neither ${tmpdir()} nor /tmp. Point TMPDIR to one`
  )
}

type Clean = () => Promise<void>

function handle (
  first: RunningServer,
  files: ServerFiles,
  options: EmbeddedServerOptions,
  login: { user: string, password: string },
  clean: Clean
): EmbeddedPostgres {
  const { port } = first
  let program = first.program
  let stopping: Promise<void> | undefined
  /** The last change of the server's state: the next one waits for it. */
  let change: Promise<unknown> = Promise.resolve()
  const after = (next: () => Promise<void>) => {
    const done = change.then(next)
    change = done.catch(() => {})
    return done
  }
  const end = async () => {
    await stopProgram(program, 'SIGINT')
    await clean()
  }
  const again = async (signal: 'SIGINT' | 'SIGQUIT') => {
    await stopProgram(program, signal)
    program = (await startServer(files, options, port, Date.now() + options.startTimeout)).program
  }
  const { user, password } = login
  const stop = async () => await (stopping ??= after(end))
  const encoded = [user, password, options.database].map(encodeURIComponent)
  return {
    connectionString: `postgres://${encoded[0]}:${encoded[1]}@${host}:${port}/${encoded[2]}`,
    host,
    port,
    user,
    password,
    database: options.database,
    dataFolder: files.dataFolder,
    get pid () { return program.pid as number },
    stop,
    restart: async (mode = 'fast') => {
      if (mode !== 'fast' && mode !== 'immediate') {
        throw exposeDetails(pgScopeError('FST_PG_SCOPE_OPTIONS', "restart() takes 'fast' or 'immediate'"))
      }
      if (stopping !== undefined) {
        throw pgScopeError('FST_PG_SCOPE_EMBEDDED', 'The server was stopped; start another one with startPostgres()')
      }
      await after(() => again(mode === 'fast' ? 'SIGINT' : 'SIGQUIT'))
    },
    [Symbol.asyncDispose]: stop
  }
}
