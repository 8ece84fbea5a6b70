import { median } from './median.ts'
import type { Figures } from './round.ts'
import type { Setting } from './setting.ts'
import type { SubjectName } from './subject.ts'
import type { WorkloadName } from './workloads.ts'

/** All rounds of one subject with one workload in one setting. */
export interface Result {
  setting: Setting
  workload: WorkloadName
  subject: SubjectName
  rounds: Figures[]
}

export type Measure = keyof Figures

export const middle = ({ rounds }: Result, measure: Measure): number => median(rounds.map((figures) => figures[measure]))

/** Rounds that were run one after the other are compared with each other, so that what slows the machine for a while slows both. */
export function ratios (result: Result, base: Result, measure: Measure): number[] {
  return result.rounds.map((figures, round) => figures[measure] / base.rounds[round]![measure])
}

export const ratio = (result: Result, base: Result, measure: Measure): number => median(ratios(result, base, measure))

export function find (results: readonly Result[], subject: SubjectName, workload: WorkloadName, wanted: Partial<Setting>): Result | undefined {
  return results.find((result) => result.subject === subject && result.workload === workload &&
    Object.entries(wanted).every(([key, value]) => result.setting[key as keyof Setting] === value))
}
