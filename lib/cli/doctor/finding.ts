import type { Facts } from './facts.ts'

export type Severity = 'error' | 'warning' | 'note'

export interface Finding {
  /** Names the check. It does not change between versions. */
  readonly id: string
  readonly severity: Severity
  /** What was found, with the figures. */
  readonly found: string
  /** Why it matters. */
  readonly why: string
  readonly change: Change
}

/** What to write where. */
export interface Change {
  readonly where: 'pgbouncer.ini' | 'postgresql.conf' | 'plugin options' | 'connection URL' | 'SQL' | 'upgrade' | 'host'
  readonly line: string
}

/** Judges facts, without input and output of its own. */
export type Check = (facts: Facts, processes: number) => Finding[]

export const inPgBouncer = (line: string): Change => ({ where: 'pgbouncer.ini', line })
export const inServer = (line: string): Change => ({ where: 'postgresql.conf', line })
export const inOptions = (line: string): Change => ({ where: 'plugin options', line })
export const inUrl = (line: string): Change => ({ where: 'connection URL', line })
export const bySql = (line: string): Change => ({ where: 'SQL', line })
export const byUpgrade = (line: string): Change => ({ where: 'upgrade', line })
export const onHost = (line: string): Change => ({ where: 'host', line })

const order: Record<Severity, number> = { error: 0, warning: 1, note: 2 }

/** Errors first; the order of the checks otherwise. */
export function bySeverity (a: Finding, b: Finding): number {
  return order[a.severity] - order[b.severity]
}
