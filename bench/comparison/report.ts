import type { Ending } from './case.ts'
import { breaches, type Finding } from './rule.ts'

export interface Row {
  name: string
  /** One for each subject, in the order of the columns. */
  findings: Finding[]
}

export function table (columns: readonly string[], rows: readonly Row[]): string {
  const right = columns.map((_, i) => rows.filter(({ findings }) => breaches(findings[i]!).length === 0).length)
  return [
    line(['what happens', ...columns]),
    line(Array.from({ length: columns.length + 1 }, () => '---')),
    ...rows.map(({ name, findings }) => line([name, ...findings.map(cell)])),
    line(['**right**', ...right.map((count) => `**${count} of ${rows.length}**`)])
  ].join('\n')
}

function line (cells: string[]): string {
  return `| ${cells.map((text) => text.replaceAll('|', '\\|').replaceAll('\n', ' ')).join(' | ')} |`
}

function cell (finding: Finding): string {
  const { back, inUse, idleInTransaction, running, crash, notes } = finding
  const wrong = breaches(finding)
  const held = [
    inUse > 0 && `${inUse} in use`,
    idleInTransaction > 0 && `${idleInTransaction} idle in transaction`,
    running > 0 && `${running} still running`
  ].filter(Boolean).join(', ')
  return [
    wrong.length === 0 ? 'right' : `**wrong**: ${wrong.join('; ')}`,
    seen(finding),
    ...notes,
    back === null && `after 2 s: ${held}`,
    crash !== null && `crash: \`${crash.replaceAll('`', "'").slice(0, 110)}\``
  ].filter(Boolean).join('<br>')
}

/** Statuses as the clients saw them, with what became of the work: alike ones together. */
function seen ({ endings, saved }: Finding): string {
  const groups = new Map<string, number>()
  for (const ending of endings) {
    const text = [status(ending), ending.writes && (saved.has(ending.tag) ? 'saved' : 'not saved')].filter(Boolean).join(', ')
    groups.set(text, (groups.get(text) ?? 0) + 1)
  }
  return [...groups].map(([text, count]) => count === 1 ? text : `${count} × ${text}`).join('; ')
}

function status ({ status, complete }: Ending): string {
  if (status === 0) return 'no answer'
  return complete ? String(status) : `${status}, broken off`
}
