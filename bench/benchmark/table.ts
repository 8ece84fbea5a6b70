import { find, middle, ratio, ratios, type Result, type Results } from './results.ts'
import { type Setting, titleOf } from './setting.ts'
import { titles } from './subject.ts'
import { type Outcome, reached, type Target } from './targets.ts'
import { workloads } from './workloads.ts'

const columns = ['workload', 'way', 'requests/s', 'to pg by hand', 'p50 ms', 'p99 ms', 'CPU µs', 'round trips']

/** All figures, a table for each setting. */
export function tables ({ measured, roundTrips }: Results): string {
  const settings = new Map(measured.map(({ setting }) => [titleOf(setting), setting]))
  return [...settings].map(([title, setting]) => `### ${title[0]!.toUpperCase()}${title.slice(1)}\n\n${table(measured, setting, roundTrips)}`).join('\n\n')
}

function table (measured: readonly Result[], setting: Setting, roundTrips: Results['roundTrips']): string {
  const rows = measured.filter((result) => titleOf(result.setting) === titleOf(setting)).map((result) => {
    const { workload, subject } = result
    const base = find(measured, workload === 'plain' ? 'fastify' : 'by-hand', workload, setting)
    return [
      workloads[workload].title,
      subject === 'pg-scope' ? `**${titles[subject]}**` : titles[subject],
      middle(result, 'perSecond').toFixed(0),
      base === undefined ? '' : base === result ? '1' : `${ratio(result, base, 'perSecond').toFixed(2)} (${range(ratios(result, base, 'perSecond'))})`,
      middle(result, 'p50').toFixed(2),
      middle(result, 'p99').toFixed(1),
      middle(result, 'cpu').toFixed(0),
      String(roundTrips.find((one) => one.subject === subject && one.workload === workload)?.count ?? '')
    ]
  })
  return markdown(columns, rows)
}

export function targetTable (targets: readonly Target[]): string {
  return markdown(['ratio', '0 ms', '2 ms'], targets.map(({ title, outcomes }) => {
    const cell = (delays: (number | null)[]): string => outcomes.filter(({ delay }) => delays.includes(delay)).map(told).join('')
    return [title, cell([0, null]), cell([2])]
  }))
}

function told (outcome: Outcome): string {
  const { bound, limit, value, range: all, note } = outcome
  const details = [all !== undefined && range(all), note].filter(Boolean).join('; ')
  return `${reached(outcome) ? 'reached' : '**not reached**'}: **${value.toFixed(2)}**${details === '' ? '' : ` (${details})`}, ${bound} ${limit}`
}

export function allocationTable (allocations: Results['allocations']): string {
  return markdown(['workload', 'way', 'bytes a request'], allocations.map(({ subject, workload, bytes }) => [workloads[workload].title, titles[subject], bytes.toFixed(0)]))
}

export function scalingTable (scalings: Results['scalings']): string {
  return markdown(['more of', 'way', 'CPU µs with few', 'with many', 'growth'], scalings.map(({ subject, what, few, many }) =>
    [what, titles[subject], `${few.cpu.toFixed(0)} (${few.count})`, `${many.cpu.toFixed(0)} (${many.count})`, (many.cpu / few.cpu).toFixed(2)]))
}

export function floorTable (floors: Results['floors'], measured: readonly Result[]): string {
  return markdown(['workload', 'round trip', 'pgbench', 'transactions/s', 'of which fastify-pg-scope serves'], floors.map(({ workload, way, delay, perSecond }) => {
    const ours = find(measured, 'pg-scope', workload, { delay, connections: 50, pooler: 'none' })
    return [workloads[workload].title, `${delay} ms`, way, perSecond.toFixed(0), ours === undefined ? '' : `${(middle(ours, 'perSecond') / perSecond * 100).toFixed(0)} %`]
  }))
}

export function markdown (columns: readonly string[], rows: readonly (readonly string[])[]): string {
  return [columns, columns.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n')
}

const range = (values: readonly number[]): string => `${Math.min(...values).toFixed(2)}–${Math.max(...values).toFixed(2)}`
