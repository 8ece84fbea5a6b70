import { byUpgrade, type Check, type Finding } from '../finding.ts'
import { isOlder, pgBouncerFlaws, serverVersions } from '../versions.ts'

/** Half a year before its end a version is mentioned. Milliseconds. */
const notice = 183 * 86400000

export const checkVersions: Check = ({ now, server, pooler, pgbouncer }) => [
  ...(server === null ? [] : checkServer(server.version, now)),
  ...(pooler.kind === 'pgbouncer' && pooler.version !== null
    ? checkPgBouncer(pooler.version, pgbouncer?.config ?? null)
    : [])
]

function checkServer (version: number, now: number): Finding[] {
  const major = Math.floor(version / 10000)
  const minor = version % 10000
  const known = serverVersions[major]
  const oldest = Math.min(...Object.keys(serverVersions).map(Number))
  if (known === undefined && major >= oldest) return []
  const end = known === undefined ? 0 : Date.parse(known.end)
  const findings: Finding[] = []
  if (end - now < notice) {
    const over = end <= now
    findings.push({
      id: 'server-end-of-life',
      severity: over ? 'warning' : 'note',
      found: known === undefined
        ? `PostgreSQL ${major} is no longer supported`
        : `PostgreSQL ${major} ${over ? 'has been' : 'is'} supported until ${known.end}`,
      why: 'Flaws that are found later are not corrected in it',
      change: byUpgrade(`PostgreSQL ${Math.max(...Object.keys(serverVersions).map(Number))}`)
    })
  }
  if (known?.minor != null && minor < known.minor) {
    findings.push({
      id: 'server-minor-version',
      severity: 'warning',
      found: `PostgreSQL ${major}.${minor}, and at least ${major}.${known.minor} is published`,
      why: 'Minor versions correct flaws and change nothing else; a restart is all that they need',
      change: byUpgrade(`PostgreSQL ${major}.${known.minor} or later`)
    })
  }
  return findings
}

function checkPgBouncer (version: string, config: Readonly<Record<string, string>> | null): Finding[] {
  const flaws = pgBouncerFlaws.filter(({ since = '0', fixed, needs }) => !isOlder(version, since) &&
    isOlder(version, fixed) && (needs === undefined || config === null || needs(config)))
  if (flaws.length === 0) return []
  const fixed = flaws.map((flaw) => flaw.fixed).reduce((a, b) => isOlder(a, b) ? b : a)
  return [{
    id: 'pgbouncer-version',
    severity: flaws.some(({ severity }) => severity === 'error') ? 'error' : 'warning',
    found: `PgBouncer ${version}: ${flaws.map(({ what }) => what).join('; ')}`,
    why: 'Later versions have corrected it',
    change: byUpgrade(`PgBouncer ${fixed} or later`)
  }]
}
