import { access, constants, readdir } from 'node:fs/promises'
import { homedir } from 'node:os'
import { delimiter, join } from 'node:path'
import { chooseAccount } from '../../lib/embedded/account.ts'
import { runProgram } from '../../lib/embedded/program.ts'

/** An installed PgBouncer. */
export interface PgBouncerProgram {
  /** As in '1.18.0'. */
  readonly version: string
  readonly file: string
}

let found: Promise<PgBouncerProgram[]> | undefined

/** The installed versions, the oldest first: the system's, and those that .ci/poolers has prepared. */
export async function findPgBouncers (): Promise<PgBouncerProgram[]> {
  return await (found ??= find())
}

async function find (): Promise<PgBouncerProgram[]> {
  const account = await chooseAccount(undefined)
  const files = await candidates()
  const programs = await Promise.all(files.map(async file => {
    // PgBouncer refuses to run as root, so what counts is whether that other user can run it.
    const { code, output } = await runProgram(file, ['--version'], account)
    const version = /^PgBouncer (\d[\d.]*)/m.exec(output)?.[1]
    return code === 0 && version !== undefined ? [{ version, file }] : []
  }))
  const byVersion = new Map(programs.flat().reverse().map(program => [program.version, program]))
  return [...byVersion.values()].sort((a, b) => compareVersions(a.version, b.version))
}

async function candidates (): Promise<string[]> {
  const folders = new Set(['/usr/sbin', ...(process.env.PATH ?? '').split(delimiter).filter(folder => folder.startsWith('/'))])
  const caches = new Set([process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), '/var/cache'])
  for (const cache of caches) {
    const folder = join(cache, 'fastify-pg-scope')
    const names = await readdir(folder).catch(() => [])
    for (const name of names) if (name.startsWith('pgbouncer-')) folders.add(join(folder, name))
  }
  const files = [...folders].map(folder => join(folder, 'pgbouncer'))
  const executable = await Promise.all(files.map(file => access(file, constants.X_OK).then(() => true, () => false)))
  return files.filter((_, index) => executable[index])
}

/** Negative if `a` is older than `b`. */
export function compareVersions (a: string, b: string): number {
  const [left, right] = [a, b].map(version => version.split('.').map(Number)) as [number[], number[]]
  for (let index = 0; index < Math.max(left.length, right.length); index++) {
    const difference = (left[index] ?? 0) - (right[index] ?? 0)
    if (difference !== 0) return difference
  }
  return 0
}
