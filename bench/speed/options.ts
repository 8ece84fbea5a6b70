import { parseArgs } from 'node:util'
import type { Choice } from './plan.ts'
import { type SubjectName, subjectNames } from './subject.ts'
import { type WorkloadName, workloadNames } from './workloads.ts'

export interface Options {
  choice: Choice
  rounds: number
  /** Seconds that each round is measured. */
  seconds: number
  write: boolean
}

export const help = `npm run bench -- [options]

  --subjects     ${subjectNames.join(', ')}
  --workloads    ${workloadNames.join(', ')}
  --delay        milliseconds of a round trip: 0, 2
  --pooler       none, newest, or the beginning of a version: 1.18
  --connections  5, 10, 50, 500
  --rounds       default 5
  --seconds      of each round, default 1.5
  --write        writes docs/benchmark.md and docs/speed.svg

A list takes commas. Without any of the first five everything is measured that docs/benchmark.md shows.`

/** @throws for what is not understood */
export function readOptions (args: string[]): Options | 'help' {
  const { values } = parseArgs({
    args,
    options: {
      subjects: { type: 'string' },
      workloads: { type: 'string' },
      delay: { type: 'string' },
      pooler: { type: 'string' },
      connections: { type: 'string' },
      rounds: { type: 'string', default: '5' },
      seconds: { type: 'string', default: '1.5' },
      write: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false }
    }
  })
  if (values.help) return 'help'
  const choice: Choice = {}
  if (values.subjects !== undefined) choice.subjects = names<SubjectName>('subjects', values.subjects, subjectNames)
  if (values.workloads !== undefined) choice.workloads = names<WorkloadName>('workloads', values.workloads, workloadNames)
  if (values.delay !== undefined) choice.delays = numbers('delay', values.delay)
  if (values.pooler !== undefined) choice.poolers = values.pooler.split(',')
  if (values.connections !== undefined) choice.connections = numbers('connections', values.connections)
  return { choice, rounds: numbers('rounds', values.rounds)[0]!, seconds: numbers('seconds', values.seconds)[0]!, write: values.write }
}

function names<T extends string> (option: string, text: string, known: readonly T[]): T[] {
  return text.split(',').map((name) => known.find((one) => one === name) ?? refuse(`--${option}: ${name} is none of ${known.join(', ')}`))
}

function numbers (option: string, text: string): number[] {
  return text.split(',').map((part) => part !== '' && Number(part) >= 0 ? Number(part) : refuse(`--${option}: ${part} is no number`))
}

function refuse (message: string): never {
  throw new Error(message)
}
