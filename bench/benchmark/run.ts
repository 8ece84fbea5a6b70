import type { TestPostgres } from '../../harness/postgres.ts'
import { Child } from './child.ts'
import { openNetwork } from './network.ts'
import { median } from './median.ts'
import type { Block } from './plan.ts'
import { type Result, middle, ratio } from './results.ts'
import { check, type Length, measure } from './round.ts'
import { type RunningApp, startApp } from './running-app.ts'
import { max, type Setting, titleOf } from './setting.ts'
import type { SubjectName } from './subject.ts'
import { workloads } from './workloads.ts'

export interface RunOptions {
  rounds: number
  length: Length
  /** For each subject, what Node is started with. */
  execArgv: (subject: SubjectName, setting: Setting) => readonly string[]
  say: (line: string) => void
}

/** After so long a process has compiled what it is going to. Milliseconds. */
const firstWarmUp = 1000

/** Measures a block in as many processes as it wants: twice the rounds in all, where these are several. */
export async function runProcesses (
  postgres: TestPostgres, block: Block, options: RunOptions
): Promise<{ results: Result[], delay: number }> {
  if (block.processes === 1) return await runBlock(postgres, block, options)
  const runs: Awaited<ReturnType<typeof runBlock>>[] = []
  for (let process = 0; process < block.processes; process++) {
    runs.push(
      await runBlock(postgres, block, { ...options, rounds: Math.ceil(options.rounds * 2 / block.processes) })
    )
  }
  const [first] = runs
  return {
    results: first!.results.map(
      (result, i) => ({ ...result, rounds: runs.flatMap(({ results }) => results[i]!.rounds) })
    ),
    delay: median(runs.map(({ delay }) => delay))
  }
}

/** Measures a block: for each workload one round of each subject, then the next round. */
async function runBlock (
  postgres: TestPostgres, { setting, workloads: chosen }: Block, { rounds, length, execArgv, say }: RunOptions
): Promise<{ results: Result[], delay: number }> {
  const { connections, delay } = setting
  const network = await openNetwork(postgres, setting)
  const apps = new Map<SubjectName, RunningApp>()
  const [load] = await Child.start('load', null)
  const results: Result[] = []
  try {
    const { connectionString, unprepared } = network
    for (const name of new Set(chosen.flatMap(({ subjects }) => subjects))) {
      apps.set(
        name, await startApp(name, { connectionString, max, unprepared, moreRoutes: 0 }, execArgv(name, setting))
      )
    }
    say(`${titleOf(setting)}${delay > 0 ? ` (${network.delay.toFixed(2)} ms measured)` : ''}`)
    if (network.delay > delay * 1.2) say('  THE MACHINE IS BUSY: round trips take much longer than they should')
    for (const { name, subjects } of chosen) {
      const row = subjects.map((subject): Result => ({ setting, workload: name, subject, rounds: [] }))
      for (const subject of subjects) {
        await check(apps.get(subject)!, name)
        await measure(postgres, load, apps.get(subject)!, name, connections, {
          warmUp: 0, duration: Math.min(firstWarmUp, length.duration)
        })
      }
      for (let round = 0; round < rounds; round++) {
        // Another one begins each time, for what ran before may leave something behind.
        for (const result of rotated(
          row, round
        )) result.rounds.push(await measure(postgres, load, apps.get(result.subject)!, name, connections, length))
      }
      say(`  ${workloads[name].title}: ${summary(row)}`)
      results.push(...row)
    }
    return { results, delay: network.delay }
  } finally {
    for (const app of apps.values()) await app.stop()
    await load.stop()
    await network.close()
  }
}

const rotated = <T>(items: readonly T[], by: number): T[] => items.map((_, i) => items[(i + by) % items.length]!)

function summary (row: readonly Result[]): string {
  const base = row.find(({ subject }) => subject === 'by-hand') ?? row[0]!
  return row.map((result) => `${result.subject} ${middle(result, 'perSecond').toFixed(0)}/s${result === base ? '' : ` (${ratio(result, base, 'perSecond').toFixed(2)})`}`).join(', ')
}
