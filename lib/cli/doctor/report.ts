import { withoutPasswords } from './ask.ts'
import type { Facts, PoolerFacts, Unread } from './facts.ts'
import type { Finding, Severity } from './finding.ts'

/** What the doctor says of one engine. docs/doctor.md describes it: fields are added, never renamed. */
export interface Report {
  readonly decorator: string
  readonly source: string
  readonly target: Facts['target']
  readonly pooler: PoolerFacts
  /** As in '18.4'. */
  readonly server: string | null
  readonly processes: number
  readonly poolMax: number
  readonly findings: readonly Finding[]
  readonly notChecked: readonly Unread[]
}

export function reportOf (facts: Facts, processes: number, findings: readonly Finding[]): Report {
  const { decorator, source, target, server, app } = facts
  // JSON has no Infinity: PgBouncer says that it follows prepared statements, not how many.
  const pooler = facts.pooler.kind === 'pgbouncer' && facts.pooler.maxPreparedStatements === Infinity
    ? { ...facts.pooler, maxPreparedStatements: null }
    : facts.pooler
  return {
    decorator,
    source,
    target,
    pooler,
    server: server === null ? null : versionOf(server.version),
    processes,
    poolMax: app.max,
    findings,
    notChecked: facts.unread
  }
}

function versionOf (number: number): string {
  return `${Math.floor(number / 10000)}.${number % 10000}`
}

/** 0: nothing, or notes. 1: warnings. 2: errors. */
export function exitStatus (reports: readonly Report[]): number {
  const severities = reports.flatMap(({ findings }) => findings.map(({ severity }) => severity))
  return severities.includes('error') ? 2 : severities.includes('warning') ? 1 : 0
}

export function toJson (reports: readonly Report[]): string {
  return `${JSON.stringify({ version: 1, status: exitStatus(reports), reports }, null, 2)}\n`
}

const width = 100
const labels: Record<Severity, string> = { error: 'ERROR', warning: 'WARNING', note: 'NOTE' }
const column = 10

export function toText (reports: readonly Report[]): string {
  return reports.map(oneReport).join('\n')
}

function oneReport (report: Report): string {
  const { decorator, source, target, pooler, server, processes, poolMax, findings, notChecked } = report
  const { host, port, database, user } = target
  const lines = [
    `app.${decorator}: database "${database}" on ${host}:${port} as user "${user}", options from ${source}`,
    `${describe(pooler)}PostgreSQL ${server ?? '(not reached)'}; ${processes} ` +
      `${processes === 1 ? 'process' : 'processes'} × pool.max ${poolMax}`,
    ''
  ]
  for (const { severity, id, found, why, change } of findings) {
    lines.push(
      ...row(labels[severity], `${id}: ${found}`), ...row('', `Why: ${why}.`),
      ...row('', `Change: ${change.where}: ${change.line}`), ''
    )
  }
  for (const { what, why, how } of notChecked) {
    lines.push(...row('NOT READ', `${what}: ${why}`), ...row('', `To read it: ${how}`), '')
  }
  const count = (severity: Severity): string => {
    const number = findings.filter((finding) => finding.severity === severity).length
    return `${number} ${severity}${number === 1 ? '' : 's'}`
  }
  lines.push(findings.length === 0 ? 'Nothing to report.' : `${count('error')}, ${count('warning')}, ${count('note')}`)
  return `${lines.join('\n')}\n`
}

function describe (pooler: PoolerFacts): string {
  switch (pooler.kind) {
    case 'none': return 'Direct connection to '
    case 'pgbouncer':
      return `PgBouncer ${pooler.version ?? '(version unknown)'}, ${pooler.mode ?? 'unknown'} mode, in front of `
    case 'other': return `${pooler.name} in front of `
    case 'unknown': return 'An unknown pooler in front of '
    case 'unreached': return ''
  }
}

/** A line of the table: a label, and a text that is wrapped beside it. */
function row (label: string, text: string): string[] {
  const lines: string[] = []
  let line = ''
  for (const word of withoutPasswords(text).split(' ')) {
    if (line !== '' && line.length + word.length + 1 > width - column) {
      lines.push(line)
      line = word
    } else line = line === '' ? word : `${line} ${word}`
  }
  lines.push(line)
  return lines.map((each, index) => `${(index === 0 ? label : '').padEnd(column)}${each}`)
}
