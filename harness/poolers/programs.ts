import { access, constants, readdir } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { compareVersions } from '../pgbouncer/programs.ts'
import { poolerKinds, type PoolerKind } from './kinds.ts'

/** An installed pooler other than PgBouncer. */
export interface PoolerProgram {
  readonly kind: PoolerKind
  readonly version: string
  /** Its programs. */
  readonly folder: string
}

/** The newest of this kind that .ci/poolers has prepared; undefined if there is none. */
export async function findPooler (name: string): Promise<PoolerProgram | undefined> {
  const kind = poolerKinds.find((kind) => kind.name === name)
  if (kind === undefined) return undefined
  const found: PoolerProgram[] = []
  for (const cache of new Set([process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), '/var/cache'])) {
    const parent = join(cache, 'fastify-pg-scope')
    for (const entry of await readdir(parent).catch(() => [])) {
      const folder = join(parent, entry)
      const isThere = entry.startsWith(`${name}-`) && await access(join(folder, name), constants.X_OK).then(() => true, () => false)
      if (isThere) found.push({ kind, version: entry.slice(name.length + 1), folder })
    }
  }
  return found.sort((a, b) => compareVersions(a.version, b.version)).at(-1)
}
