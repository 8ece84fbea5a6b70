import { readFile } from 'node:fs/promises'
import { join, resolve, sep } from 'node:path'
import { packageFolder } from './package-folder.ts'

/**
 * How a new app's package.json names this package: by a range of versions, or, when npm installed it from a file, by
 * that file, whose version may not be published.
 */
export async function dependencyOnThisPackage (): Promise<string> {
  const folder = packageFolder()
  const { version } = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8'))
  const modules = folder.slice(0, folder.lastIndexOf(`${sep}node_modules${sep}`))
  if (modules === folder.slice(0, -1)) return `^${version}`
  const lock = await readFile(join(modules, 'node_modules/.package-lock.json'), 'utf8').then(JSON.parse, () => null)
  const resolved: unknown = lock?.packages?.['node_modules/fastify-pg-scope']?.resolved
  if (typeof resolved !== 'string' || !resolved.startsWith('file:')) return `^${version}`
  return `file:${resolve(modules, resolved.slice('file:'.length))}`
}
