import type { Setting } from './setting.ts'
import type { SubjectName } from './subject.ts'
import type { WorkloadName } from './workloads.ts'

/** Everything that is measured in one setting. */
export interface Block {
  setting: Setting
  workloads: { name: WorkloadName, subjects: readonly SubjectName[] }[]
}

/** What was chosen on the command line. */
export interface Choice {
  subjects?: SubjectName[]
  workloads?: WorkloadName[]
  delays?: number[]
  poolers?: string[]
  connections?: number[]
}

const main: SubjectName[] = ['by-hand', 'fastify-postgres', 'postgres-js', 'pg-scope']
const databaseWorkloads: WorkloadName[] = ['read', 'read-only', 'autocommit', 'write', 'page', 'settings']

export function planOf (choice: Choice): Block[] {
  const { delays = [0, 2], poolers = ['none'], connections = [50] } = choice
  const settings = poolers.flatMap((pooler) => delays.flatMap((delay) => connections.map((connections) => ({ delay, pooler, connections }))))
  const names: WorkloadName[] = choice.workloads ?? ['plain', ...databaseWorkloads]
  return settings.map((setting) => ({
    setting,
    workloads: names.map((name) => ({
      name,
      subjects: (choice.subjects ?? (name === 'plain' ? ['fastify', 'pg-scope'] : main)).filter((subject) => subject !== 'fastify' || name === 'plain')
    })).filter(({ subjects }) => subjects.length > 0)
  }))
}
