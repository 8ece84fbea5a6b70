import { parseArgs } from 'node:util'
import type { Choice } from './plan.ts'
import { type SubjectName, subjectNames, useBefore } from './subject.ts'
import { type WorkloadName, workloadNames } from './workloads.ts'

export const parts = ['speed', 'round-trips', 'allocation', 'scaling', 'pgbench'] as const
export type Part = typeof parts[number]

export interface Options {
  /** Null for the whole plan. */
  choice: Choice | null
  parts: readonly Part[]
  rounds: number
  /** Seconds that each round is measured. */
  seconds: number
  /** Whether the apps leave a profile. */
  profile: boolean
  /** Whether the page and the chart are written. */
  write: boolean
  /** Results of an earlier run, to be shown again. */
  from: string | undefined
}

export const help = `npm run bench -- [options]

  --subjects     ${subjectNames.join(', ')}
  --workloads    ${workloadNames.join(', ')}
  --delay        milliseconds of a round trip: 0, 2
  --pooler       none, newest, or the beginning of a version: 1.18
  --connections  5, 10, 50, 500
  --parts        ${parts.join(', ')}
  --rounds       default 5
  --seconds      of each round, default 1.5
  --cpu-prof     each Node app leaves a profile in bench/results
  --write        writes docs/benchmark.md and docs/speed.svg
  --before       a checkout of an earlier build in which \`npm run bench:build\` has run: it is measured beside this one, as
                 the subject "before"; by itself it chooses by-hand, before and pg-scope
  --from         a file of results, to be shown or written without measuring: bench/results/speed.json

Lists take commas. With any of the first five, every combination of them is measured, and the round trips are counted; what
is not named is: all workloads, all subjects on Node, 0 ms, no pooler, 50 connections. Without them everything is measured
that docs/benchmark.md shows.`

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
      parts: { type: 'string' },
      rounds: { type: 'string', default: '5' },
      seconds: { type: 'string', default: '1.5' },
      'cpu-prof': { type: 'boolean', default: false },
      write: { type: 'boolean', default: false },
      before: { type: 'string' },
      from: { type: 'string' },
      help: { type: 'boolean', default: false }
    }
  })
  if (values.help) return 'help'
  const choice: Choice = {}
  if (values.subjects !== undefined) choice.subjects = names<SubjectName>('subjects', values.subjects, subjectNames)
  if (values.before !== undefined) {
    useBefore(values.before)
    choice.subjects ??= ['fastify', 'by-hand', 'before', 'pg-scope']
  }
  if (values.workloads !== undefined) choice.workloads = names<WorkloadName>('workloads', values.workloads, workloadNames)
  if (values.delay !== undefined) choice.delays = numbers('delay', values.delay)
  if (values.pooler !== undefined) choice.poolers = values.pooler.split(',')
  if (values.connections !== undefined) choice.connections = numbers('connections', values.connections)
  const whole = Object.keys(choice).length === 0
  if (values.write && values.from === undefined && (!whole || values.parts !== undefined)) refuse('--write: a page with some of the figures would look like all of them')
  const rounds = number('rounds', values.rounds)
  if (!Number.isInteger(rounds)) refuse(`--rounds: ${rounds} is not whole`)
  const defaultParts: readonly Part[] = whole ? parts : ['speed', 'round-trips']
  return {
    choice: whole ? null : choice,
    parts: values.parts === undefined ? defaultParts : names<Part>('parts', values.parts, parts),
    rounds,
    seconds: number('seconds', values.seconds),
    profile: values['cpu-prof'],
    write: values.write,
    from: values.from
  }
}

function names<T extends string> (option: string, text: string, known: readonly T[]): T[] {
  return text.split(',').map((name) => known.find((one) => one === name) ?? refuse(`--${option}: ${name} is none of ${known.join(', ')}`))
}

function numbers (option: string, text: string): number[] {
  return text.split(',').map((part) => part !== '' && Number(part) >= 0 ? Number(part) : refuse(`--${option}: ${part} is no number`))
}

function number (option: string, text: string): number {
  return Number(text) > 0 ? Number(text) : refuse(`--${option}: ${text} is no number above 0`)
}

function refuse (message: string): never {
  throw new Error(message)
}
