import { setTimeout as sleep } from 'node:timers/promises'
import { startPgProxy } from '../../harness/pg-proxy.ts'
import type { TestPostgres } from '../../harness/postgres.ts'
import { check } from './round.ts'
import { startApp } from './running-app.ts'
import type { SubjectName } from './subject.ts'
import type { WorkloadName } from './workloads.ts'

export interface RoundTrips {
  subject: SubjectName
  workload: WorkloadName
  /** Of one request, without others beside it. */
  count: number
}

const requests = 20

/** Some of what an earlier request began may end after its answer. Milliseconds. */
const rest = 5

/** Counts what crosses the only connection of a pool, once it is open and its statements are known. */
export async function countRoundTrips (
  postgres: TestPostgres, subject: SubjectName, workloads: readonly WorkloadName[]
): Promise<RoundTrips[]> {
  const proxy = await startPgProxy(null, postgres)
  try {
    const connectionString = proxy.connectionString(postgres.connectionString)
    const app = await startApp(subject, { connectionString, max: 1, unprepared: false, moreRoutes: 0 })
    try {
      const counts: RoundTrips[] = []
      for (const workload of workloads) {
        await check(app, workload)
        await sleep(10 * rest)
        proxy.reset()
        for (let i = 0; i < requests; i++) {
          await check(app, workload, 1)
          await sleep(rest)
        }
        counts.push({ subject, workload, count: proxy.roundTrips / requests })
      }
      return counts
    } finally {
      await app.stop()
    }
  } finally {
    await proxy.close()
  }
}
