import type { Ending } from './case.ts'

export const rule = 'a success is committed, an error is not, every connection comes back within 2 s, the process lives'

/** What was measured of one case. */
export interface Finding {
  endings: Ending[]
  /** Tags of the rows that are there at the end. */
  saved: Set<string>
  /** Milliseconds from the last ending until no connection was in use, or null: not within 2 s. */
  back: number | null
  inUse: number
  idleInTransaction: number
  running: number
  /** What the process said as it died, or null. */
  crash: string | null
  notes: string[]
}

const succeeded = ({ status, complete }: Ending) => complete && status >= 200 && status < 400
const failed = ({ status }: Ending) => status >= 400

/** What the rule has against it: nothing, where it is right. A client that read nothing is promised nothing. */
export function breaches ({ endings, saved, back, crash }: Finding): string[] {
  const found: string[] = []
  const writing = endings.filter(({ writes }) => writes)
  const isSaved = ({ tag }: Ending) => saved.has(tag) || saved.has(`${tag} late`)
  if (writing.some((ending) => succeeded(ending) && !ending.threw && !isSaved(ending))) found.push('a success is not committed')
  if (writing.some((ending) => (failed(ending) || ending.threw) && isSaved(ending))) found.push('an error is committed')
  if (back === null) found.push('a connection does not come back')
  if (crash !== null) found.push('the process dies')
  return found
}
