import { inWords } from '../duration.ts'
import type { IdleTransaction } from '../facts.ts'
import { bySql, type Check, type Finding, inOptions, inPgBouncer } from '../finding.ts'

/** A transaction of a healthy app is idle for milliseconds. Seconds. */
const longestIdle = 5
/** Sessions that are named one by one. */
const shown = 5

/** What goes on at the moment. */
export const checkActivity: Check = ({ activity, connection, pgbouncer }) => {
  const findings: Finding[] = []
  const idle = (activity?.idleInTransaction ?? []).filter((each) => each.idle >= longestIdle)
  if (idle.length > 0) {
    const more = idle.length > shown ? `; and ${idle.length - shown} more` : ''
    findings.push({
      id: 'idle-in-transaction',
      severity: 'warning',
      found: `${idle.length} ${idle.length === 1 ? 'session is' : 'sessions are'} idle in transaction: ` +
        idle.slice(0, shown).map(inOneLine).join('; ') + more,
      why: 'They hold locks and a server connection, and keep VACUUM from removing dead rows',
      change: bySql(`SELECT pg_terminate_backend(${idle[0]!.pid}); for the future ALTER ROLE … SET ` +
        'idle_in_transaction_session_timeout = \'60s\'')
    })
  }
  if (activity !== null && activity.preparedTransactions.count > 0) {
    const { count, oldest } = activity.preparedTransactions
    findings.push({
      id: 'prepared-transactions',
      severity: oldest >= 300 ? 'warning' : 'note',
      found: `${count} prepared ${count === 1 ? 'transaction' : 'transactions'}, the oldest for ${since(oldest)}`,
      why: 'A prepared transaction holds its locks until COMMIT PREPARED or ROLLBACK PREPARED, through restarts too',
      change: bySql('SELECT gid, prepared, owner FROM pg_prepared_xacts; then ROLLBACK PREPARED \'…\'')
    })
  }
  if (pgbouncer !== null && pgbouncer.waiting.clients > 0 && pgbouncer.waiting.longest >= 1) {
    const { clients, longest } = pgbouncer.waiting
    findings.push({
      id: 'clients-waiting',
      severity: 'warning',
      found: `${clients} ${clients === 1 ? 'client waits' : 'clients wait'} for a server connection in PgBouncer, ` +
        `the first for ${since(longest)}`,
      why: 'Its pool is too small for the load, or transactions stay open',
      change: inPgBouncer('default_pool_size, after SHOW POOLS and the sessions that are idle in transaction')
    })
  }
  return [...findings, ...checkName(connection.applicationName)]
}

function checkName (name: { sent: string, seen: string } | null): Finding[] {
  if (name === null || name.seen.includes(name.sent)) return []
  if (Buffer.byteLength(name.sent) > 63 && name.seen !== '' && name.sent.startsWith(name.seen.slice(0, 20))) {
    return [{
      id: 'application-name',
      severity: 'note',
      found: `the application_name has ${Buffer.byteLength(name.sent)} bytes, and the server shows 63`,
      why: 'What distinguishes the instances may be in the part that is cut off',
      change: inOptions('applicationName: at most 63 bytes')
    }]
  }
  return [{
    id: 'application-name',
    severity: 'warning',
    found: `the app sends the application_name ${JSON.stringify(name.sent)}, and the server shows ` +
      (name.seen === '' ? 'none' : JSON.stringify(name.seen)),
    why: 'Behind a pooler the server sees the pooler\'s address alone, so that sessions cannot be told apart',
    change: bySql('ALTER ROLE … RESET application_name; also look at the pooler, and at its server_reset_query')
  }]
}

function inOneLine (session: IdleTransaction): string {
  const { pid, user, applicationName, address, idle, open, lastCommand, aborted } = session
  const after = lastCommand === null ? '' : ` after ${lastCommand}`
  return `pid ${pid} (${applicationName || 'no application_name'}, user ${user}, ${address ?? 'Unix socket'}) for ` +
    `${since(idle)}${after}, open for ${since(open)}${aborted ? ', aborted' : ''}`
}

function since (seconds: number): string {
  const whole = Math.round(seconds)
  return inWords((whole >= 120 ? Math.round(whole / 60) * 60 : whole) * 1000)
}
