import { setTimeout as sleep } from 'node:timers/promises'
import type { TestPostgres } from '../../harness/postgres.ts'
import type { Child } from './child.ts'
import type { Order, Report } from './load.ts'
import type { RunningApp } from './running-app.ts'
import { entries, tidy } from './schema.ts'
import { user, userHeader } from '../../harness/workload-statements.ts'
import { type WorkloadName, workloads } from './workloads.ts'

/** What one round of one subject came to. */
export interface Figures {
  /** Requests a second. */
  perSecond: number
  /** Milliseconds. */
  p50: number
  p99: number
  /** Microseconds of CPU that the app's process took for each request. */
  cpu: number
}

export interface Length {
  /** Milliseconds. */
  warmUp: number
  duration: number
}

export const headers = { [userHeader]: user }

/** Asks a few times, and throws unless each answer is what it should be. */
export async function check (app: RunningApp, name: WorkloadName, times = 10): Promise<void> {
  const { method, path, status, right } = workloads[name]
  for (let i = 0; i < times; i++) {
    const response = await fetch(app.url + path, { method, headers })
    const text = await response.text()
    if (response.status !== status || !right(JSON.parse(text))) throw new Error(`${method} ${path} was answered with ${response.status}: ${text}`)
  }
}

/** @param load the process of load.ts */
export async function measure (
  postgres: TestPostgres, load: Child, app: RunningApp, name: WorkloadName, connections: number, length: Length
): Promise<Figures> {
  const writes = name === 'write'
  if (writes) await tidy(postgres)
  load.send({ url: app.url, workload: name, headers, connections, ...length } satisfies Order)
  await phase(load, 'begins')
  const before = await app.cpu()
  await phase(load, 'ends')
  const after = await app.cpu()
  const { failures, answered, perSecond, p50, p99 } = await phase(load, 'done')
  if (writes) {
    const written = await rowsOf(postgres, answered)
    if (written !== answered) failures.push(`${written} rows for ${answered} answers`)
  }
  if (failures.length > 0) throw new Error(`${workloads[name].title}: ${failures.join(', ')}`)
  return { perSecond, p50, p99, cpu: (after.used - before.used) / (after.at - before.at) * 1e6 / perSecond }
}

/** A subject may answer before its COMMIT. */
async function rowsOf (postgres: TestPostgres, expected: number): Promise<number> {
  for (let attempt = 0; ; attempt++) {
    const rows = await entries(postgres)
    if (rows === expected || attempt === 20) return rows
    await sleep(50)
  }
}

async function phase<T extends Report['phase']> (load: Child, expected: T): Promise<Extract<Report, { phase: T }>> {
  const report = await load.next<Report>()
  if (report.phase !== expected) throw new Error(`the load said ${report.phase} when it should say ${expected}`)
  return report as Extract<Report, { phase: T }>
}
