import type { TestPostgres } from '../../test/helpers/postgres.ts'
import { Child } from './child.ts'
import { openNetwork } from './network.ts'
import type { Block } from './plan.ts'
import { type Result, middle, ratio } from './results.ts'
import { check, measure } from './round.ts'
import { type RunningApp, startApp } from './running-app.ts'
import { max, titleOf } from './setting.ts'
import type { SubjectName } from './subject.ts'
import { workloads } from './workloads.ts'

export interface RunOptions {
  rounds: number
  /** Milliseconds. */
  duration: number
  say: (line: string) => void
}

/** A process is warm for good after the first of these; the second lets a load get going. Milliseconds. */
const firstWarmUp = 1000
const warmUp = 250

/** Measures a block: for each workload one round of each subject, then the next round. */
export async function runBlock (postgres: TestPostgres, { setting, workloads: chosen }: Block, { rounds, duration, say }: RunOptions): Promise<Result[]> {
  const { connections } = setting
  const network = await openNetwork(postgres, setting)
  const apps = new Map<SubjectName, RunningApp>()
  const [load] = await Child.start('load', null)
  const results: Result[] = []
  try {
    const { connectionString, unprepared } = network
    for (const name of new Set(chosen.flatMap(({ subjects }) => subjects))) apps.set(name, await startApp(name, { connectionString, max, unprepared, moreRoutes: 0 }))
    say(`${titleOf(setting)}${setting.delay > 0 ? ` (${network.delay.toFixed(2)} ms measured)` : ''}`)
    for (const { name, subjects } of chosen) {
      const row = subjects.map((subject): Result => ({ setting, workload: name, subject, rounds: [] }))
      for (const subject of subjects) {
        await check(apps.get(subject)!, name)
        await measure(postgres, load, apps.get(subject)!, name, connections, { warmUp: 0, duration: firstWarmUp })
      }
      for (let round = 0; round < rounds; round++) {
        for (const result of row) result.rounds.push(await measure(postgres, load, apps.get(result.subject)!, name, connections, { warmUp, duration }))
      }
      say(`  ${workloads[name].title}: ${summary(row)}`)
      results.push(...row)
    }
    return results
  } finally {
    for (const app of apps.values()) await app.stop()
    await load.stop()
    await network.close()
  }
}

function summary (row: readonly Result[]): string {
  const base = row.find(({ subject }) => subject === 'by-hand') ?? row[0]!
  return row.map((result) => `${result.subject} ${middle(result, 'perSecond').toFixed(0)}/s (${ratio(result, base, 'perSecond').toFixed(2)})`).join(', ')
}
