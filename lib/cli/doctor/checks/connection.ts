import { type Check, type Finding, inOptions, inUrl, onHost } from '../finding.ts'

/** Whether the server can be reached at all. */
export const checkConnection: Check = ({ bootFailure, connection: { failure } }) => {
  const findings: Finding[] = []
  if (failure !== null) {
    const change = {
      refused: inUrl('user, password and database; on the server pg_hba.conf and GRANT CONNECT'),
      full: inOptions('a lower pool.max; or a higher max_connections, behind PgBouncer max_client_conn'),
      unreachable: onHost('start the server, or correct host and port; then firewalls, listen_addresses and TLS')
    }[failure.kind]
    findings.push({
      id: 'connection',
      severity: 'error',
      found: failure.reason,
      why: 'The app cannot work, and nothing else can be checked',
      change
    })
  }
  // What stops the connection stops the app, too.
  if (bootFailure !== null && failure === null) {
    findings.push({
      id: 'app-start',
      severity: 'error',
      found: `the app does not start: ${bootFailure}`,
      why: 'Its options were read before it failed; the checks are about them',
      change: inOptions('see the message')
    })
  }
  return findings
}
