import { findPgBouncers } from '../../harness/pgbouncer.ts'
import type { Block } from './plan.ts'
import { findPython } from './python.ts'

/**
 * A plan that can be carried out on this machine, with the versions of its poolers, and what is missing for the rest.
 */
export async function possible (plan: readonly Block[]): Promise<{ plan: Block[], missing: string[] }> {
  const missing = new Set<string>()
  const programs = await findPgBouncers()
  const python = await findPython()
  const blocks: Block[] = []
  for (const { setting, part, processes, workloads } of plan) {
    const { pooler } = setting
    const version = pooler === 'none' ? undefined : programs.findLast(({ version }) => pooler === 'newest' || `${version}.`.startsWith(`${pooler}.`))?.version
    if (pooler !== 'none' && version === undefined) {
      missing.add(pooler === 'newest' ? 'PgBouncer' : `PgBouncer ${pooler}`)
      continue
    }
    blocks.push({
      part,
      processes,
      setting: { ...setting, pooler: version ?? pooler },
      workloads: workloads.map(({ name, subjects }) => ({ name, subjects: subjects.filter((subject) => subject !== 'fastapi' || python !== null) }))
        .filter(({ subjects }) => subjects.length > 0)
    })
    if (python === null && workloads.some(({ subjects }) => subjects.includes('fastapi'))) missing.add('FastAPI')
  }
  return { plan: blocks, missing: [...missing] }
}
