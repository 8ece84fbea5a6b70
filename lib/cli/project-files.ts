import { readdir, readFile } from 'node:fs/promises'
import { join, relative, sep } from 'node:path'
import type { Builder } from './init-arguments.ts'
import { dependencyOnThisPackage } from './own-version.ts'
import { packageFolder } from './package-folder.ts'
import { UsageError } from './usage-error.ts'

export interface Project {
  name: string
  javascript: boolean
  builder: Builder | null
  pgbouncer: boolean
}

type Manifest = Record<string, unknown> & Partial<Record<typeof added[number], Record<string, string>>>

/** What an option may add to package.json. */
const added = ['scripts', 'dependencies', 'devDependencies'] as const

/**
 * The files of a new app by their paths, in the order of these: the base, and what the options replace or add. A
 * package.json is added to the one below it.
 */
export async function projectFiles ({ name, javascript, builder, pgbouncer }: Project): Promise<Map<string, string>> {
  const template = join(packageFolder(), 'dist/template', javascript ? 'javascript' : 'typescript')
  const parts = ['base', ...(builder === null ? [] : [builder]), ...(pgbouncer ? ['pgbouncer'] : [])]
  const files = new Map<string, string>()
  const manifests: Manifest[] = []
  for (const part of parts) {
    for (const [path, text] of await readAll(join(template, part))) {
      if (path === 'package.json') manifests.push(JSON.parse(text))
      // Under its own name npm would not have packed it.
      else files.set(path === 'gitignore' ? '.gitignore' : path, text)
    }
  }
  const { description: _description, ...manifest } = manifests[0]!
  for (const field of added) manifest[field] = Object.assign({}, ...manifests.map((part) => part[field]))
  manifest.dependencies!['fastify-pg-scope'] = await dependencyOnThisPackage()
  if (Object.hasOwn({ ...manifest.dependencies, ...manifest.devDependencies }, name)) {
    throw new UsageError(`${JSON.stringify(name)} cannot be the name of the app, which depends on a package of this ` +
      'name. Choose another folder')
  }
  for (const field of ['dependencies', 'devDependencies'] as const) manifest[field] = sorted(manifest[field]!)
  files.set('package.json', `${JSON.stringify({ ...manifest, name }, null, 2)}\n`)
  files.set('README.md', files.get('README.md')!.replace(/^# .*/, `# ${name}`))
  return new Map([...files].sort(([a], [b]) => a < b ? -1 : 1))
}

/** As npm writes them. */
function sorted (packages: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(packages).sort(([a], [b]) => a < b ? -1 : 1))
}

async function readAll (folder: string): Promise<[path: string, text: string][]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  return await Promise.all(entries.filter((entry) => entry.isFile()).map(async ({ parentPath, name }) => {
    const path = join(parentPath, name)
    return [relative(folder, path).split(sep).join('/'), await readFile(path, 'utf8')] as [string, string]
  }))
}
