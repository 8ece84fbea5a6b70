import { checkActivity } from './checks/activity.ts'
import { checkConnection } from './checks/connection.ts'
import { checkLimits } from './checks/limits.ts'
import { checkPooler } from './checks/pooler.ts'
import { checkSecurity } from './checks/security.ts'
import { checkTimeouts } from './checks/timeouts.ts'
import { checkVersions } from './checks/versions.ts'
import type { Facts } from './facts.ts'
import { bySeverity, type Check, type Finding } from './finding.ts'

const checks: readonly Check[] = [
  checkConnection, checkPooler, checkLimits, checkTimeouts, checkActivity, checkSecurity, checkVersions
]

/** @param processes how many processes run the app */
export function judge (facts: Facts, processes: number): Finding[] {
  return checks.flatMap((check) => check(facts, processes)).sort(bySeverity)
}
