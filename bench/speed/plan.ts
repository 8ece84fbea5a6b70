import type { Setting } from './setting.ts'
import type { SubjectName } from './subject.ts'
import { type WorkloadName, workloadNames } from './workloads.ts'

/** Everything that is measured in one setting. */
export interface Block {
  setting: Setting
  workloads: { name: WorkloadName, subjects: readonly SubjectName[] }[]
  /** A setting beside the main one is content with fewer rounds. */
  part: 'main' | 'beside'
}

/** What was chosen on the command line. */
export interface Choice {
  subjects?: SubjectName[]
  workloads?: WorkloadName[]
  delays?: number[]
  poolers?: string[]
  connections?: number[]
}

/** Those on Node that use a database. */
const onNode: SubjectName[] = ['by-hand', 'fastify-postgres', 'postgres-js', 'kysely', 'drizzle', 'pg-scope']
const both: SubjectName[] = ['by-hand', 'pg-scope']

const withDatabase = workloadNames.filter((name) => name !== 'plain')

/** FastAPI stands beside them where the stack that people come from is asked about. */
const main = (delay: number): Block => ({
  setting: { delay, pooler: 'none', connections: 50 },
  part: 'main',
  workloads: [
    ...(delay === 0 ? [{ name: 'plain' as const, subjects: ['fastify', 'pg-scope', 'fastapi'] as const }] : []),
    ...withDatabase.map((name) => ({ name, subjects: name === 'read' || (name === 'write' && delay === 0) ? [...onNode, 'fastapi' as const] : onNode }))
  ]
})

const latency = (delay: number): Block => ({
  setting: { delay, pooler: 'none', connections: 5 },
  part: 'main',
  workloads: [{ name: 'read-only', subjects: ['by-hand', 'fastify-postgres', 'postgres-js', 'pg-scope'] }]
})

const beside = (setting: Setting, names: WorkloadName[]): Block => ({
  setting,
  part: 'beside',
  workloads: names.map((name) => ({ name, subjects: both }))
})

/** What docs/benchmark.md shows: some 20 minutes. */
export const wholePlan: Block[] = [
  main(0),
  main(2),
  latency(0),
  latency(2),
  beside({ delay: 0, pooler: '1.18', connections: 50 }, ['read', 'write']),
  beside({ delay: 0, pooler: 'newest', connections: 50 }, ['read', 'write']),
  beside({ delay: 2, pooler: 'newest', connections: 50 }, ['read', 'write']),
  beside({ delay: 0, pooler: 'none', connections: 10 }, ['read']),
  beside({ delay: 2, pooler: 'none', connections: 10 }, ['read']),
  beside({ delay: 0, pooler: 'none', connections: 500 }, ['read']),
  beside({ delay: 2, pooler: 'none', connections: 500 }, ['read'])
]

/** Every combination of what was chosen; where nothing was, all workloads, those on Node, directly, without a delay, 50 connections. */
export function planOf ({ subjects, workloads, delays = [0], poolers = ['none'], connections = [50] }: Choice): Block[] {
  const of = (name: WorkloadName): SubjectName[] => {
    if (subjects === undefined) return name === 'plain' ? ['fastify', 'pg-scope'] : onNode
    return subjects.filter((subject) => subject !== 'fastify' || name === 'plain')
  }
  const chosen = (workloads ?? workloadNames).map((name) => ({ name, subjects: of(name) })).filter(({ subjects }) => subjects.length > 0)
  return poolers.flatMap((pooler) => delays.flatMap((delay) => connections.map((connections): Block => ({
    setting: { delay, pooler, connections },
    part: 'main',
    workloads: chosen
  }))))
}
