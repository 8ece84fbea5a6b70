import type { Severity } from '../../../lib/cli/doctor/finding.ts'
import type { TestPgBouncer } from '../../../harness/pgbouncer.ts'
import type { TestPostgres } from '../../../harness/postgres.ts'
import { startTcpProxy } from '../../../harness/tcp-proxy.ts'
import type { PgScopeOptions } from '../../../types/options.ts'

export interface Place {
  readonly postgres: TestPostgres
  /** As the role `app`, which is no superuser. */
  readonly direct: string
  /** The newest PgBouncer, with the recommended configuration. */
  readonly pgbouncer: TestPgBouncer
  readonly pooled: string
}

/** One thing that is wrong, and what the doctor has to say about it. */
export interface Seed {
  readonly what: string
  readonly id: string
  readonly severity: Severity
  readonly behind: 'direct' | 'pooled'
  readonly options?: Omit<PgScopeOptions, 'connectionString'>
  readonly processes?: number
  /** Parameters of the URL. */
  readonly url?: string
  /** Settings of PgBouncer. The recommended values are set again afterwards. */
  readonly set?: Record<string, string | number>
  /** SQL before and after. */
  readonly sql?: readonly [before: string, after: string]
  /** It changes what can be seen of others. */
  readonly alone?: true
}

/** Seeds that do not get in each other's way, and are planted together: each group costs one look. */
export function groupsOf (all: readonly Seed[]): Seed[][] {
  const groups: Seed[][] = []
  const changed = ({ id, options = {}, set = {} }: Seed): string[] =>
    [id, ...Object.keys(options), ...Object.keys(set)]
  const sameLook = (a: Seed, b: Seed): boolean =>
    a.behind === b.behind && a.url === b.url && a.processes === b.processes
  for (const seed of all) {
    const fits = (group: Seed[]): boolean => seed.alone !== true && group.every((other) =>
      other.alone !== true && sameLook(other, seed) && !changed(other).some((key) => changed(seed).includes(key)))
    const group = groups.find(fits)
    if (group === undefined) groups.push([seed])
    else group.push(seed)
  }
  return groups
}

export const seeds: readonly Seed[] = [
  // The connections of all processes.
  { what: 'more connections than the server has', id: 'max-connections', severity: 'error', behind: 'direct', processes: 10 },
  { what: 'too few connections for a deployment', id: 'max-connections', severity: 'warning', behind: 'direct', processes: 5 },
  { what: 'a role with a lower limit', id: 'role-connection-limit', severity: 'error', behind: 'direct', sql: ['ALTER ROLE app CONNECTION LIMIT 8', 'ALTER ROLE app CONNECTION LIMIT -1'] },
  { what: 'a database with a lower limit', id: 'database-connection-limit', severity: 'warning', behind: 'direct', sql: ['ALTER DATABASE postgres CONNECTION LIMIT 15', 'ALTER DATABASE postgres CONNECTION LIMIT -1'] },
  { what: 'a low max_client_conn', id: 'max-client-conn', severity: 'warning', behind: 'pooled', set: { max_client_conn: 15 } },
  { what: 'more processes than max_client_conn allows', id: 'max-client-conn', severity: 'error', behind: 'pooled', processes: 101 },
  { what: 'a pool of PgBouncer that is too small', id: 'pool-size', severity: 'warning', behind: 'pooled', set: { default_pool_size: 3 } },
  { what: 'a limit below the pool of PgBouncer', id: 'pool-size', severity: 'warning', behind: 'pooled', set: { max_db_connections: 4 } },
  { what: 'a pool of PgBouncer that is larger than the server', id: 'pool-size-max-connections', severity: 'error', alone: true, behind: 'pooled', set: { default_pool_size: 150 } },
  // Time.
  { what: 'a server that ends idle connections', id: 'idle-session-timeout', severity: 'warning', behind: 'direct', sql: ['ALTER ROLE app SET idle_session_timeout = \'20s\'', 'ALTER ROLE app RESET idle_session_timeout'] },
  { what: 'no limit for idle transactions', id: 'idle-in-transaction-timeout', severity: 'warning', behind: 'direct', options: { idleInTransactionTimeout: 0 } },
  { what: 'an answerTimeout below statementTimeout', id: 'answer-timeout', severity: 'warning', behind: 'direct', options: { statementTimeout: 20_000, answerTimeout: 10_000 } },
  { what: 'an answerTimeout below the role\'s statement_timeout', id: 'answer-timeout', severity: 'warning', behind: 'direct', options: { answerTimeout: 10_000 }, sql: ['ALTER ROLE app SET statement_timeout = \'20s\'', 'ALTER ROLE app RESET statement_timeout'] },
  { what: 'connections that are never replaced', id: 'max-lifetime', severity: 'note', behind: 'direct', options: { pool: { maxLifetime: 0 } } },
  { what: 'server connections that live shorter than the pool\'s', id: 'server-lifetime', severity: 'note', behind: 'pooled', set: { server_lifetime: 600 } },
  { what: 'server connections that are used once', id: 'server-lifetime', severity: 'warning', behind: 'pooled', set: { server_lifetime: 0 } },
  { what: 'a PgBouncer that ends idle clients', id: 'client-idle-timeout', severity: 'warning', behind: 'pooled', set: { client_idle_timeout: 20 } },
  { what: 'a PgBouncer that keeps no idle server connection', id: 'server-idle-timeout', severity: 'warning', behind: 'pooled', set: { server_idle_timeout: 2 } },
  { what: 'a PgBouncer that ends idle transactions', id: 'idle-transaction-timeout', severity: 'warning', behind: 'pooled', set: { idle_transaction_timeout: 30 } },
  { what: 'a PgBouncer that ends slow statements', id: 'query-timeout', severity: 'warning', behind: 'pooled', set: { query_timeout: 30 } },
  { what: 'waits without a limit in PgBouncer', id: 'query-wait-timeout', severity: 'warning', behind: 'pooled', set: { query_wait_timeout: 0 } },
  { what: 'waits in PgBouncer that outlast every client', id: 'query-wait-timeout', severity: 'warning', behind: 'pooled', set: { query_wait_timeout: 120 } },
  { what: 'waits in PgBouncer that are too short', id: 'query-wait-timeout', severity: 'warning', behind: 'pooled', set: { query_wait_timeout: 1 } },
  { what: 'a long server_login_retry', id: 'server-login-retry', severity: 'warning', alone: true, behind: 'pooled', set: { server_login_retry: 15 } },
  // The pooler and what the app knows of it.
  { what: 'a direct connection that is taken for PgBouncer', id: 'pooler-option', severity: 'note', alone: true, behind: 'direct', options: { pooler: 'transaction' } },
  { what: 'a PgBouncer that is taken for a direct connection', id: 'pooler-option', severity: 'error', alone: true, behind: 'pooled', options: { pooler: 'none' } },
  { what: 'transaction mode that is taken for session mode', id: 'pooler-option', severity: 'error', alone: true, behind: 'pooled', options: { pooler: 'session' } },
  { what: 'session mode with kept connections', id: 'pool-mode', severity: 'warning', alone: true, behind: 'pooled', set: { pool_mode: 'session' } },
  { what: 'statement mode', id: 'pool-mode', severity: 'error', alone: true, behind: 'pooled', set: { pool_mode: 'statement' } },
  { what: 'prepared statements that PgBouncer does not follow', id: 'prepared-statements', severity: 'error', alone: true, behind: 'pooled', options: { preparedStatements: true }, set: { max_prepared_statements: 0 } },
  { what: 'no prepared statements', id: 'prepared-statements', severity: 'warning', behind: 'pooled', set: { max_prepared_statements: 0 } },
  { what: 'more prepared statements than PgBouncer follows', id: 'prepared-statements', severity: 'warning', behind: 'pooled', set: { max_prepared_statements: 20 } },
  { what: 'startup parameters that are dropped', id: 'ignore-startup-parameters', severity: 'warning', behind: 'pooled', set: { ignore_startup_parameters: 'extra_float_digits, statement_timeout, options' } },
  { what: 'a reset after each transaction', id: 'server-reset-query-always', severity: 'warning', behind: 'pooled', set: { server_reset_query_always: 1 } },
  { what: 'no keep-alive in PgBouncer', id: 'tcp-keepalive', severity: 'warning', behind: 'pooled', set: { tcp_keepalive: 0 } },
  { what: 'strategy null on a direct connection', id: 'null-strategy', severity: 'note', behind: 'direct', options: { pool: { strategy: 'null' } } },
  // Who gets in, and who listens.
  { what: 'a PgBouncer without passwords', id: 'auth-type', severity: 'error', alone: true, behind: 'pooled', set: { auth_type: 'trust' } },
  { what: 'a certificate that is not verified', id: 'tls-unverified', severity: 'warning', behind: 'direct', url: '?sslmode=no-verify' },
  // What goes on.
  { what: 'an application_name that is cut off', id: 'application-name', severity: 'note', behind: 'direct', options: { applicationName: 'a'.repeat(70) } },
  { what: 'a login that is refused', id: 'connection', severity: 'error', alone: true, behind: 'direct', sql: ['ALTER ROLE app NOLOGIN', 'ALTER ROLE app LOGIN'] }
]

/**
 * A proxy that is at fault: `cancel` swallows CancelRequests, `pipelining` answers only the first of the statements
 * that arrive together.
 */
export async function startFaultyProxy (
  t: { teardown (fn: () => unknown): unknown }, upstream: { host: string, port: number }, fault: 'cancel' | 'pipelining'
): Promise<number> {
  const { port } = await startTcpProxy(t, upstream, (client, target) => {
    client.on('data', (chunk) => {
      // A CancelRequest: https://www.postgresql.org/docs/current/protocol-message-formats.html
      if (fault === 'cancel' && chunk.length === 16 && chunk.readInt32BE(4) === 80877102) client.end()
      else if (fault === 'pipelining') target.write(firstStatement(chunk))
      else target.write(chunk)
    })
    target.on('data', (chunk) => client.write(chunk))
  })
  return port
}

/** Up to and with the first Sync, where there is more than one. */
function firstStatement (chunk: Buffer): Buffer {
  const sync = Buffer.from([0x53, 0, 0, 0, 4])
  const first = chunk.indexOf(sync)
  return first !== -1 && chunk.indexOf(sync, first + 1) !== -1 ? chunk.subarray(0, first + sync.length) : chunk
}
