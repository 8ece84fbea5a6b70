import type { Setting } from './setting.ts'
import type { SubjectName } from './subject.ts'
import { type WorkloadName, workloadNames } from './workloads.ts'

/** Everything that is measured in one setting. */
export interface Block {
  setting: Setting
  workloads: { name: WorkloadName, subjects: readonly SubjectName[] }[]
  /** A setting beside the main one is content with fewer rounds. */
  part: 'main' | 'beside'
  /** How many processes each subject gets, one after the other. */
  processes: number
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

/**
 * What memory a process happens to get makes as much as a fifth of a request without a database: there it takes
 * several of them to tell three in a hundred.
 */
const plain = (setting: Setting, subjects: readonly SubjectName[]): Block => ({
  setting,
  part: 'main',
  processes: 5,
  workloads: [{ name: 'plain', subjects }]
})

/** FastAPI stands beside them where the stack that people come from is asked about. */
const main = (delay: number): Block => ({
  setting: { delay, pooler: 'none', connections: 50 },
  part: 'main',
  processes: 1,
  workloads: withDatabase.map((name) => ({ name, subjects: name === 'read' || (name === 'write' && delay === 0) ? [...onNode, 'fastapi' as const] : onNode }))
})

const latency = (delay: number): Block => ({
  setting: { delay, pooler: 'none', connections: 5 },
  part: 'main',
  processes: 3,
  workloads: [{ name: 'read-only', subjects: ['by-hand', 'fastify-postgres', 'postgres-js', 'pg-scope'] }]
})

const beside = (setting: Setting, names: WorkloadName[]): Block => ({
  setting,
  part: 'beside',
  processes: 1,
  workloads: names.map((name) => ({ name, subjects: both }))
})

/** What docs/benchmark.md shows: some 20 minutes. */
export const wholePlan: Block[] = [
  plain({ delay: 0, pooler: 'none', connections: 50 }, ['fastify', 'pg-scope', 'fastapi']),
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

/**
 * Every combination of what was chosen; where nothing was, all workloads, those on Node, directly, without a delay,
 * 50 connections.
 */
export function planOf ({ subjects, workloads, delays = [0], poolers = ['none'], connections = [50] }: Choice): Block[] {
  const names = workloads ?? workloadNames
  const plainSubjects = names.includes('plain') ? subjects ?? ['fastify', 'pg-scope'] : []
  const others = (subjects ?? onNode).filter((subject) => subject !== 'fastify')
  const chosen = names.filter((name) => name !== 'plain').map((name) => ({ name, subjects: others }))
  return poolers.flatMap((pooler) => delays.flatMap((delay) => connections.flatMap((connections): Block[] => {
    const setting = { delay, pooler, connections }
    return [plain(setting, plainSubjects), { setting, part: 'main', processes: 1, workloads: chosen }]
  }))).filter(({ workloads }) => workloads.some(({ subjects }) => subjects.length > 0))
}
