/** Whether a version such as `1.18.0` is older than another one. */
export function isOlder (version: string, other: string): boolean {
  const [left, right] = [version, other].map((text) => text.split('.').map(Number))
  for (let index = 0; index < Math.max(left!.length, right!.length); index++) {
    const difference = (left![index] ?? 0) - (right![index] ?? 0)
    if (difference !== 0) return difference < 0
  }
  return false
}

/**
 * Major versions of PostgreSQL: the last day of support, and the newest minor version that this package knows. Dates:
 * https://www.postgresql.org/support/versioning/
 */
export const serverVersions: Readonly<Record<number, { readonly end: string, readonly minor: number | null }>> = {
  10: { end: '2022-11-10', minor: 23 },
  11: { end: '2023-11-09', minor: 22 },
  12: { end: '2024-11-21', minor: 22 },
  13: { end: '2025-11-13', minor: 23 },
  14: { end: '2026-11-12', minor: 23 },
  15: { end: '2027-11-11', minor: 18 },
  16: { end: '2028-11-09', minor: 14 },
  17: { end: '2029-11-08', minor: 10 },
  18: { end: '2030-11-14', minor: 4 }
}

export interface Flaw {
  /** The first version that has it; undefined: all before `fixed`. */
  readonly since?: string
  readonly fixed: string
  readonly severity: 'error' | 'warning' | 'note'
  readonly what: string
  /** It needs this of SHOW CONFIG; where the configuration could not be read, it is reported. */
  readonly needs?: (config: Readonly<Record<string, string>>) => boolean
}

/** Flaws of PgBouncer that matter to an app: https://www.pgbouncer.org/changelog.html, and what the tests have met. */
export const pgBouncerFlaws: readonly Flaw[] = [
  {
    since: '1.17',
    fixed: '1.26.1',
    severity: 'error',
    what: 'a user of auth_file can log in as any other user (CVE-2026-107350)',
    needs: (config) => ['scram-sha-256', 'md5', 'hba'].includes(config.auth_type ?? '')
  },
  {
    since: '1.20',
    fixed: '1.26.1',
    severity: 'error',
    what: 'an unauthenticated client can stop it (CVE-2026-107349)',
    needs: ({ ignore_startup_parameters: names = '' }) => names !== '' && !names.split(/, */).includes('options')
  },
  {
    fixed: '1.25.2',
    severity: 'warning',
    what: 'a server can crash it (CVE-2026-6665, CVE-2026-6666)'
  },
  {
    fixed: '1.24.1',
    severity: 'warning',
    what: 'auth_query accepts passwords that have expired (CVE-2025-2291)',
    needs: ({ auth_user: user = '' }) => user !== ''
  },
  {
    fixed: '1.21',
    severity: 'warning',
    what: 'it does not follow prepared statements, so that nothing is prepared'
  },
  {
    since: '1.18',
    fixed: '1.19',
    severity: 'warning',
    what: 'it ends, with all of its clients, when a client closes the connection of a CancelRequest first (other ' +
      'clients than this plugin do)'
  }
]
