import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { copyFile, cp, mkdir, readdir, readFile, rename, symlink } from 'node:fs/promises'
import { dirname, join, relative, sep } from 'node:path'
import { promisify } from 'node:util'

export const root = dirname(dirname(import.meta.dirname))
const notPacked = ['.git', '.tap', 'node_modules', 'dist']
const cache = join(root, 'node_modules/.cache/fastify-pg-scope')

/** Runs a program, and returns what it wrote. Rejects when it fails, with what it said. */
export async function run (program: string, args: string[], cwd: string): Promise<string> {
  // Under tap, node would be told to load tap's hooks, and tap's child would be told to write TAP.
  const { NODE_OPTIONS: _hooks, TAP: _tap, ...env } = process.env
  const { stdout, stderr } = await promisify(execFile)(program, args, { cwd, env, maxBuffer: 2 ** 24 })
    .catch((error: Error & { stdout: string, stderr: string }) => { throw new Error(`${program} ${args.join(' ')}\n${error.stdout}\n${error.stderr}`) })
  return stdout + stderr
}

/**
 * Makes the tarball as `npm publish` does, prepack included, from a copy: what earlier builds left in dist/ is not
 * in it, and tests that run from dist/ meanwhile keep it. A tarball of the same files is made once.
 *
 * @param folder an empty one outside of the repository, whose node_modules a consumer would find otherwise
 * @returns the tarball's path
 */
export async function pack (folder: string): Promise<string> {
  const copy = join(folder, 'copy')
  await cp(root, copy, {
    recursive: true, filter: path => !relative(root, path).split(sep).some(name => notPacked.includes(name))
  })
  const { name, version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'))
  const tarball = join(folder, `${name}-${version}.tgz`)
  const made = join(cache, `${await hashOf(copy)}.tgz`)
  if (existsSync(made)) {
    await copyFile(made, tarball)
    return tarball
  }
  await symlink(join(root, 'node_modules'), join(copy, 'node_modules'))
  await run('npm', ['pack', '--silent', '--pack-destination', folder], copy)
  await mkdir(cache, { recursive: true })
  // Renamed into place: another test may pack the same files at the same time.
  const draft = `${made}.${process.pid}`
  await copyFile(tarball, draft)
  await rename(draft, made)
  return tarball
}

async function hashOf (folder: string): Promise<string> {
  const hash = createHash('sha256')
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  const paths = entries.filter((entry) => entry.isFile()).map(({ parentPath, name }) => join(parentPath, name)).sort()
  for (const path of paths) hash.update(`${relative(folder, path)}\0`).update(await readFile(path)).update('\0')
  return hash.digest('hex')
}

/**
 * Unpacks the tarball where a project in `folder` would have it installed. Beside it stands what package.json
 * declares, from the repository, and nothing else: an import that is not declared fails.
 *
 * @param others packages that the project itself has installed
 */
export async function install (tarball: string, folder: string, others: string[]): Promise<string> {
  const modules = join(folder, 'node_modules')
  const installed = join(modules, 'fastify-pg-scope')
  await mkdir(installed, { recursive: true })
  await run('tar', ['-xzf', tarball, '-C', installed, '--strip-components=1'], folder)
  const { dependencies } = JSON.parse(await readFile(join(installed, 'package.json'), 'utf8'))
  for (const name of [...Object.keys(dependencies), ...others]) {
    await mkdir(dirname(join(modules, name)), { recursive: true })
    await symlink(join(root, 'node_modules', name), join(modules, name))
  }
  return installed
}
