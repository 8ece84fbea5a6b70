import { type Figures, partOf } from './figures.ts'

const width = 720
const height = 400
const margin = { left: 64, right: 28, top: 64, bottom: 56 }
/** The top of the plot, as a part of what the app can bear. */
const top = 1.4

const served = '#1667b7'
const bound = '#b45309'
const quiet = '#777'

/** Served requests over the load that was offered, both as multiples of what the app can bear: SVG. */
export function plot (rows: readonly Figures[]): string {
  const points = rows.map((row): [number, number] => [row.offered / row.capacity, partOf(row)])
  const most = Math.max(...points.map(([load]) => load))
  const peak = Math.max(...points.map(([, part]) => part))
  const [, last] = points.at(-1)!
  const x = (load: number): number => round(margin.left + load / most * (width - margin.left - margin.right))
  const y = (part: number): number => round(height - margin.bottom - part / top * (height - margin.top - margin.bottom))
  const line = (points: [number, number][], style: string): string =>
    `<polyline fill="none" ${style} points="${points.map(([load, part]) => `${x(load)},${y(part)}`).join(' ')}"/>`
  const text = (left: number, base: number, words: string, style = ''): string => `<text x="${left}" y="${base}" ${style}>${words}</text>`
  const right = width - margin.right
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="system-ui, sans-serif" font-size="13" fill="#333">
<title>Requests served under overload</title>
<rect width="${width}" height="${height}" fill="#fff"/>
${text(margin.left, 24, 'Requests served under overload', 'font-size="15" font-weight="600"')}
${text(margin.left, 44, `${percent(last)} of what the app can bear at ${most.toFixed(1)} times the load; ${percent(peak)} at the peak`, `fill="${quiet}"`)}
${[0, 0.25, 0.5, 0.75, 1, 1.25].map((part) => `<line x1="${margin.left}" x2="${right}" y1="${y(part)}" y2="${y(part)}" stroke="#e5e5e5"/>${text(margin.left - 8, y(part) + 4, percent(part), 'text-anchor="end"')}`).join('\n')}
${Array.from({ length: Math.floor(most + 0.1) + 1 }, (_, load) => text(x(load), height - margin.bottom + 20, `${load}×`, 'text-anchor="middle"')).join('\n')}
${text((margin.left + right) / 2, height - 12, 'load, as a multiple of what the app can bear', 'text-anchor="middle"')}
${line([[0, 0], [top, top]], `stroke="${quiet}" stroke-dasharray="5 5"`)}
${text(x(top) + 6, y(top) + 10, 'offered', `fill="${quiet}"`)}
${line([[0, peak * 0.9], [most, peak * 0.9]], `stroke="${bound}" stroke-dasharray="2 4"`)}
${text(right, y(peak * 0.9) + 18, '90 % of the peak', `text-anchor="end" fill="${bound}"`)}
${line([[0, 0], ...points], `stroke="${served}" stroke-width="2.5"`)}
${points.map(([load, part]) => `<circle cx="${x(load)}" cy="${y(part)}" r="4" fill="${served}"/>`).join('\n')}
${text(right, y(last) - 12, 'served', `text-anchor="end" fill="${served}"`)}
</svg>
`
}

const round = (length: number): number => Math.round(length * 10) / 10
const percent = (part: number): string => `${Math.round(part * 100)} %`
