import { middle, ratio, find, type Result } from './results.ts'
import { titleOf, type Setting } from './setting.ts'
import { subjects } from './subject.ts'
import { workloads } from './workloads.ts'

const columns = ['workload', 'subject', 'requests/s', 'p50 ms', 'p99 ms', 'CPU µs', 'to pg by hand']

/** All figures, a table for each setting. */
export function tables (results: readonly Result[]): string {
  const settings = new Map(results.map(({ setting }) => [titleOf(setting), setting]))
  return [...settings].map(([title, setting]) => `### ${title[0]!.toUpperCase()}${title.slice(1)}\n\n${table(results, setting)}`).join('\n\n')
}

function table (results: readonly Result[], setting: Setting): string {
  const rows = results.filter((result) => titleOf(result.setting) === titleOf(setting)).map((result) => {
    const byHand = find(results, 'by-hand', result.workload, setting)
    return [
      workloads[result.workload].title,
      subjects[result.subject].title,
      middle(result, 'perSecond').toFixed(0),
      middle(result, 'p50').toFixed(2),
      middle(result, 'p99').toFixed(2),
      middle(result, 'cpu').toFixed(0),
      byHand === undefined ? '' : ratio(result, byHand, 'perSecond').toFixed(2)
    ]
  })
  return markdown(columns, rows)
}

export function markdown (columns: readonly string[], rows: readonly (readonly string[])[]): string {
  return [columns, columns.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n')
}
