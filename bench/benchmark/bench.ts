import { availableParallelism } from 'node:os'
import { startTestPostgres, type TestPostgres } from '../../harness/postgres.ts'
import { measureAllocation } from './allocation.ts'
import { possible } from './missing.ts'
import { openNetwork } from './network.ts'
import type { Part } from './options.ts'
import { findPgbench, measureFloor } from './pgbench.ts'
import type { Block } from './plan.ts'
import type { Results } from './results.ts'
import type { Length } from './round.ts'
import { countRoundTrips } from './round-trips.ts'
import { runProcesses, type RunOptions } from './run.ts'
import { measureScaling } from './scaling.ts'
import { createTables } from './schema.ts'
import { type NodeSubjectName, subjectNames } from './subject.ts'
import { versionsOf } from './versions.ts'
import { workloadNames } from './workloads.ts'

export interface BenchOptions {
  plan: readonly Block[]
  parts: readonly Part[]
  rounds: number
  length: Length
  command: string
  execArgv: RunOptions['execArgv']
  say: (line: string) => void
}

/** Everything of one run, on a server of its own. */
export async function bench (options: BenchOptions): Promise<Results> {
  const teardowns: (() => unknown)[] = []
  // A checkpoint that comes by the clock would come in the middle of somebody's round.
  const postgres = await startTestPostgres({ teardown: (callback) => teardowns.push(callback) }, { settings: { checkpoint_timeout: '1h' } })
  try {
    await createTables(postgres)
    return await measureParts(postgres, options)
  } finally {
    for (const teardown of teardowns.reverse()) await teardown()
  }
}

async function measureParts (
  postgres: TestPostgres, { plan: wanted, parts, rounds, length, command, execArgv, say }: BenchOptions
): Promise<Results> {
  const { plan, missing } = await possible(wanted)
  const results: Results = {
    about: {
      command,
      rounds,
      seconds: length.duration / 1000,
      cores: availableParallelism(),
      versions: await versionsOf(postgres),
      delays: [],
      missing
    },
    measured: [],
    roundTrips: [],
    allocations: [],
    scalings: [],
    floors: []
  }
  const { about } = results
  for (const name of missing) say(`${name} is not installed: left out`)
  if (parts.includes('round-trips')) {
    for (const subject of subjectNames) {
      const workloads = workloadNames.filter((name) => name !== 'plain' && plan.some(({ workloads }) => workloads.some((one) => one.name === name && one.subjects.includes(subject))))
      if (workloads.length > 0) results.roundTrips.push(...await countRoundTrips(postgres, subject, workloads))
    }
  }
  if (parts.includes('allocation')) {
    results.allocations.push(await measureAllocation(postgres.connectionString, 'fastify', 'plain'))
    const before = plan.some(({ workloads }) => workloads.some(({ subjects }) => subjects.includes('before')))
    const subjects: NodeSubjectName[] = before ? ['by-hand', 'before', 'pg-scope'] : ['by-hand', 'pg-scope']
    for (const subject of subjects) results.allocations.push(await measureAllocation(postgres.connectionString, subject, 'read'))
    for (const { subject, bytes } of results.allocations) say(`${subject} allocates ${bytes.toFixed(0)} bytes for a request`)
  }
  if (parts.includes('speed')) {
    for (const block of plan) {
      const { results: measured, delay } = await runProcesses(postgres, block, { rounds: block.part === 'main' ? rounds : Math.ceil(rounds * 0.6), length, execArgv, say })
      results.measured.push(...measured)
      if (block.setting.delay > 0) about.delays.push({ delay: block.setting.delay, measured: delay })
    }
  }
  if (parts.includes('scaling')) {
    results.scalings.push(...await measureScaling(postgres, Math.ceil(rounds * 0.6), length))
    for (const { subject, what, few, many } of results.scalings) say(`${subject}: ${few.cpu.toFixed(0)} µs with ${few.count} ${what}, ${many.cpu.toFixed(0)} with ${many.count}`)
  }
  if (parts.includes('pgbench')) {
    if (await findPgbench() === null) {
      say('pgbench is not installed: left out')
      about.missing.push('pgbench')
    } else {
      for (const delay of [0, 2]) {
        const network = await openNetwork(postgres, { delay, pooler: 'none' })
        try {
          results.floors.push(...await measureFloor(network, delay, length.duration / 1000))
        } finally {
          await network.close()
        }
      }
      for (const { workload, way, delay, perSecond } of results.floors) say(`pgbench, ${workload}, ${way}, ${delay} ms: ${perSecond.toFixed(0)}/s`)
    }
  }
  return results
}
