import type { Allocation } from './allocation.ts'
import { median } from './median.ts'
import type { Floor } from './pgbench.ts'
import type { RoundTrips } from './round-trips.ts'
import type { Figures } from './round.ts'
import type { Scaling } from './scaling.ts'
import type { Setting } from './setting.ts'
import type { SubjectName } from './subject.ts'
import type { WorkloadName } from './workloads.ts'

/** All that one run found. */
export interface Results {
  about: About
  measured: Result[]
  roundTrips: RoundTrips[]
  allocations: Allocation[]
  scalings: Scaling[]
  /** Empty where pgbench is not installed. */
  floors: Floor[]
}

/** What the figures depend on. */
export interface About {
  command: string
  rounds: number
  /** Of each round. */
  seconds: number
  cores: number
  /** Programs and libraries with their versions. */
  versions: string[]
  /** Milliseconds of a round trip that were asked for, and what they were in addition. */
  delays: { delay: number, measured: number }[]
  /** What is not installed. */
  missing: string[]
}

/** All rounds of one subject with one workload in one setting. */
export interface Result {
  setting: Setting
  workload: WorkloadName
  subject: SubjectName
  rounds: Figures[]
}

export type Measure = keyof Figures

export const middle = ({ rounds }: Result, measure: Measure): number =>
  median(rounds.map((figures) => figures[measure]))

/**
 * Rounds that were run one after the other are compared with each other, so that what slows the machine for a while
 * slows both.
 */
export function ratios (result: Result, base: Result, measure: Measure): number[] {
  return result.rounds.map((figures, round) => figures[measure] / base.rounds[round]![measure])
}

export const ratio = (result: Result, base: Result, measure: Measure): number => median(ratios(result, base, measure))

export function find (
  results: readonly Result[], subject: SubjectName, workload: WorkloadName, wanted: Partial<Setting>
): Result | undefined {
  return results.find((result) => result.subject === subject && result.workload === workload &&
    Object.entries(wanted).every(([key, value]) => result.setting[key as keyof Setting] === value))
}
