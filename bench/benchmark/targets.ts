import { find, ratios, type Measure, type Result, type Results } from './results.ts'
import { median } from './median.ts'
import type { Setting } from './setting.ts'
import type { SubjectName } from './subject.ts'
import { type WorkloadName, workloads } from './workloads.ts'

/** What was to be reached, and what was. */
export interface Target {
  title: string
  outcomes: Outcome[]
}

export interface Outcome {
  /** Milliseconds of a round trip; null where it does not matter. */
  delay: number | null
  bound: 'at least' | 'at most'
  limit: number
  value: number
  /** Smallest and largest of all rounds, where there were several. */
  range?: [number, number]
  /** Which one of several it was. */
  note?: string
}

export const reached = ({ bound, limit, value }: Outcome): boolean => bound === 'at least' ? value >= limit : value <= limit

/** A limit for 0 and one for 2 ms; null where there is none. */
type Limits = [number | null, number | null]

/** Autocommit is neither `transact` nor `sql.begin`. */
const withTransaction: WorkloadName[] = ['read', 'read-only', 'write', 'page', 'settings']

export function targetsOf ({ measured, allocations, scalings }: Results): Target[] {
  const target = (title: string, limits: Limits, worst: (delay: number) => Compared | null, bound: Outcome['bound'] = 'at least'): Target => ({
    title,
    outcomes: ([0, 2] as const).flatMap((delay, i) => {
      const limit = limits[i] ?? null
      const found = limit === null ? null : worst(delay)
      return found === null ? [] : [{ delay, bound, limit: limit!, ...found }]
    })
  })
  const against = (base: SubjectName, workload: WorkloadName, measure: Measure = 'perSecond', connections = 50) =>
    (delay: number): Compared | null => compare(measured, base, workload, measure, { delay, connections, pooler: 'none' })
  const least = (base: SubjectName) => (delay: number): Compared | null => {
    const found = withTransaction.flatMap((workload) => {
      const compared = against(base, workload)(delay)
      return compared === null ? [] : [{ ...compared, note: workloads[workload].title }]
    })
    return found.sort((a, b) => a.value - b.value)[0] ?? null
  }
  return [
    target('one read', [1.5, 2.8], against('by-hand', 'read')),
    target('one read, READ ONLY: p50 at 5 connections', [0.75, 0.4], against('by-hand', 'read-only', 'p50', 5), 'at most'),
    target('update + insert', [1.4, 1.7], against('by-hand', 'write')),
    target('page of five reads under `Promise.all`, against five in sequence', [2.2, 5], against('by-hand', 'page')),
    target('two settings and a timeout, against one extra statement', [1.7, 2.2], against('by-hand', 'settings')),
    target('route without database, against Fastify alone', [0.97, null], against('fastify', 'plain')),
    target('against @fastify/postgres `transact`, its worst workload', [1.35, 1.7], least('fastify-postgres')),
    target('against postgres.js `sql.begin`, its worst workload', [1.2, 1.5], least('postgres-js')),
    target('one read, against FastAPI + SQLAlchemy', [8, null], against('fastapi', 'read')),
    { title: 'bytes allocated for one read', outcomes: bytesOutcome(allocations) },
    ...(['routes', 'waiting requests'] as const).map((what) => ({ title: `growth of CPU for a request, with ${what}`, outcomes: growthOutcome(scalings, what) }))
  ].filter(({ outcomes }) => outcomes.length > 0)
}

type Compared = Pick<Outcome, 'value' | 'range' | 'note'>

function compare (
  measured: readonly Result[], base: SubjectName, workload: WorkloadName, measure: Measure, setting: Setting
): Compared | null {
  const [ours, theirs] = (['pg-scope', base] as const).map((subject) => find(measured, subject, workload, setting))
  if (ours === undefined || theirs === undefined) return null
  const all = ratios(ours, theirs, measure)
  return { value: median(all), range: [Math.min(...all), Math.max(...all)] }
}

function bytesOutcome (allocations: Results['allocations']): Outcome[] {
  const [ours, theirs] = (['pg-scope', 'by-hand'] as const).map((subject) => allocations.find((one) => one.subject === subject && one.workload === 'read'))
  return ours === undefined || theirs === undefined ? [] : [{ delay: null, bound: 'at most', limit: 1.5, value: ours.bytes / theirs.bytes }]
}

/**
 * HTTP and pg themselves cost some microseconds more with more sockets and more in memory: what counts is by how many
 * more than by hand it grows. A twentieth is noise.
 */
function growthOutcome (scalings: Results['scalings'], what: Results['scalings'][number]['what']): Outcome[] {
  const [ours, theirs] = (['pg-scope', 'by-hand'] as const).map((subject) => scalings.find((one) => one.subject === subject && one.what === what))
  if (ours === undefined || theirs === undefined) return []
  const growth = ({ few, many }: typeof ours): number => many.cpu - few.cpu
  const told = (scaling: typeof ours): string => `${growth(scaling) < 0 ? '−' : '+'}${Math.abs(growth(scaling)).toFixed(0)} µs`
  return [{ delay: null, bound: 'at most', limit: 1.05, value: 1 + (growth(ours) - growth(theirs)) / ours.few.cpu, note: `${told(ours)}; by hand ${told(theirs)}` }]
}
