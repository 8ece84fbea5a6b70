import { find, ratio, type Results } from './results.ts'
import { type SubjectName, titles } from './subject.ts'
import { type WorkloadName, workloads } from './workloads.ts'

const names: WorkloadName[] = ['read', 'read-only', 'autocommit', 'write', 'page', 'settings']
/** The line at 1 stands for pg by hand. */
const colours: [SubjectName, string][] = [
  ['pg-scope', '#1667b7'],
  ['fastify-postgres', '#b3bcc7'],
  ['postgres-js', '#d8c08c'],
  ['kysely', '#c3d6bd'],
  ['drizzle', '#d3c4e3'],
  ['fastapi', '#e0b4ad']
]
const delays = [0, 2]

const width = 860
const labels = 150
const gap = 28
const right = 44
const top = 92
const bar = 9
const space = 14
const quiet = '#777'

/** Requests a second as multiples of those of pg by hand: SVG. */
export function chart ({ measured, about }: Results): string {
  const ratioOf = (subject: SubjectName, workload: WorkloadName, delay: number): number | null => {
    const [one, base] = [subject, 'by-hand' as const].map((name) => find(measured, name, workload, { delay, connections: 50, pooler: 'none' }))
    return one === undefined || base === undefined ? null : ratio(one, base, 'perSecond')
  }
  const groups = names.map((workload) => ({
    workload,
    bars: colours.map(
      ([subject, colour]) => ({ subject, colour, ratios: delays.map((delay) => ratioOf(subject, workload, delay)) })
    )
      .filter(({ ratios }) => ratios.some((value) => value !== null))
  })).filter(({ bars }) => bars.length > 0)
  const heightOf = (bars: number): number => bars * (bar + 1) + space
  const bottom = groups.reduce((height, { bars }) => height + heightOf(bars.length), top)
  const panel = (width - labels - gap - 2 * right) / 2
  const left = (column: number): number => labels + column * (panel + right + gap)
  const most = delays.map(
    (_, column) => Math.max(1.2, ...groups.flatMap(({ bars }) => bars.map(({ ratios }) => ratios[column] ?? 0)))
  )
  const x = (column: number, value: number): number => round(left(column) + value / most[column]! * panel)
  let y = top
  const rows = groups.flatMap(({ workload, bars }) => {
    const height = heightOf(bars.length)
    const middle = y + (height - space) / 2 + 4
    const lines = [text(labels - 10, middle, short(workload), 'text-anchor="end"')]
    for (const [i, { subject, colour, ratios }] of bars.entries()) {
      const line = y + i * (bar + 1)
      for (const [column, value] of ratios.entries()) {
        if (value === null) continue
        const strong = subject === 'pg-scope' ? 'font-weight="600"' : `fill="${quiet}"`
        lines.push(
          `<rect x="${left(column)}" y="${line}" width="${round(x(column, value) - left(column))}" height="${bar}" fill="${colour}"/>`,
          text(x(column, value) + 4, line + 8, value.toFixed(2), `font-size="9" ${strong}`)
        )
      }
    }
    y += height
    return lines
  })
  const legend = colours.filter(([subject]) => groups.some(({ bars }) => bars.some((one) => one.subject === subject)))
  let at = labels
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${bottom + 14}" font-family="system-ui, sans-serif" font-size="12" fill="#333">
<title>Requests a second, as multiples of pg by hand</title>
<rect width="${width}" height="${bottom + 14}" fill="#fff"/>
${text(16, 24, 'Requests a second, as multiples of pg by hand', 'font-size="15" font-weight="600"')}
${text(16, 42, `one transaction for each request, 50 connections, a pool of 10; medians of ${about.rounds} rounds`, `fill="${quiet}"`)}
${legend.map(([subject, colour]) => {
  const entry = `<rect x="${at}" y="53" width="10" height="10" fill="${colour}"/>${text(at + 14, 62, titles[subject])}`
  at += 26 + titles[subject].length * 6.4
  return entry
}).join('\n')}
${delays.map((delay, column) => text(left(column), top - 8, `${delay} ms of round-trip time`, 'font-weight="600"')).join('\n')}
${delays.map((_, column) => `<line x1="${x(column, 1)}" x2="${x(column, 1)}" y1="${top - 2}" y2="${bottom - space + 4}" stroke="#b45309" stroke-dasharray="3 3"/>${text(x(column, 1), bottom + 6, 'pg by hand', 'text-anchor="middle" font-size="10" fill="#b45309"')}`).join('\n')}
${rows.join('\n')}
</svg>
`
}

const short = (workload: WorkloadName): string => workload === 'settings' ? 'one read with settings' : workloads[workload].title
const text = (left: number, base: number, words: string, style = ''): string => `<text x="${round(left)}" y="${round(base)}" ${style}>${words}</text>`
const round = (length: number): number => Math.round(length * 10) / 10
