import { median } from './median.ts'
import { check } from './round.ts'
import { max } from './setting.ts'
import type { NodeSubjectName } from './subject.ts'
import { startNodeApp, type NodeApp } from './running-app.ts'
import type { WorkloadName } from './workloads.ts'

export interface Allocation {
  subject: NodeSubjectName
  workload: WorkloadName
  /** Of V8's heap for one request, HTTP included; not what lies outside of it, as the memory of buffers does. */
  bytes: number
}

/**
 * A nursery so large that nothing is collected while it is counted, so that what is used has grown by what was
 * allocated. A round in which something was collected all the same is refused.
 */
const nursery = ['--min-semi-space-size=256', '--max-semi-space-size=256', '--expose-gc']

const clients = 50

/** Requests of each client. */
export interface Extent {
  warmUps: number
  counted: number
  rounds: number
}

const usual: Extent = { warmUps: 100, counted: 20, rounds: 5 }

export async function measureAllocation (
  connectionString: string, subject: NodeSubjectName, workload: WorkloadName, { warmUps, counted, rounds } = usual
): Promise<Allocation> {
  const app = await startNodeApp(subject, { connectionString, max, unprepared: false, moreRoutes: 0 }, nursery)
  try {
    await ask(app, workload, warmUps)
    const bytes: number[] = []
    for (let round = 0; round < rounds; round++) {
      const before = await app.heap('collect')
      await ask(app, workload, counted)
      const after = await app.heap('look')
      if (after.collections !== before.collections) throw new Error('the garbage was collected while it was counted')
      bytes.push((after.used - before.used) / (clients * counted))
    }
    return { subject, workload, bytes: median(bytes) }
  } finally {
    await app.stop()
  }
}

async function ask (app: NodeApp, workload: WorkloadName, times: number): Promise<void> {
  await Promise.all(Array.from({ length: clients }, () => check(app, workload, times)))
}
