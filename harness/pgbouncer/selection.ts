import { compareVersions, findPgBouncers, type PgBouncerProgram } from './programs.ts'

export interface Selection {
  programs: PgBouncerProgram[]
  /** What has to be there and is not. */
  missing: string[]
}

/** The range of Debian's version, and of one that follows prepared statements by default. */
const required = [
  { name: 'PgBouncer 1.18', has: (version: string) => version.startsWith('1.18.') },
  { name: 'a PgBouncer from 1.24 on', has: isNewer }
]

function isNewer (version: string): boolean {
  return compareVersions(version, '1.24') >= 0
}

/**
 * What PG_SCOPE_PGBOUNCER names, as '1.18' or '1.18,1.26', and which has to be there then. Without it, or with
 * 'all', every one that is installed; with CI=true both Debian's and a newer one have to be.
 */
export async function selectPgBouncers ({ PG_SCOPE_PGBOUNCER: wanted, CI } = process.env): Promise<Selection> {
  const installed = await findPgBouncers()
  if (wanted === undefined || wanted === '' || wanted === 'all') {
    const missing = CI === 'true' ? required.filter(({ has }) => !installed.some(({ version }) => has(version))) : []
    return { programs: installed, missing: missing.map(({ name }) => name) }
  }
  const selection: Selection = { programs: [], missing: [] }
  for (const prefix of wanted.split(',').map(part => part.trim())) {
    const programs = installed.filter(({ version }) => `${version}.`.startsWith(`${prefix}.`))
    if (programs.length === 0) selection.missing.push(`PgBouncer ${prefix}`)
    selection.programs.push(...programs)
  }
  return selection
}

/**
 * What PG_SCOPE_TEST_THROUGH names: the beginning of a version, or 'newest', which is never Debian's. undefined if it
 * is not installed.
 */
export async function findForVariant (through: string): Promise<PgBouncerProgram | undefined> {
  return (await findPgBouncers()).findLast(({ version }) => through === 'newest' ? isNewer(version) : `${version}.`.startsWith(`${through}.`))
}
