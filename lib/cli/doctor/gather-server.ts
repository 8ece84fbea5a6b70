import type pg from 'pg'
import { failureKind } from '../../postgres/sqlstate.ts'
import { messageOf } from './ask.ts'
import type { ActivityFacts, IdleTransaction, ServerFacts, Unread } from './facts.ts'

/** Limits of a role and a database do not hold for a superuser. */
const limitsQuestion = `
  SELECT current_setting('server_version_num')::int AS version,
    current_setting('max_connections')::int AS max_connections,
    current_setting('superuser_reserved_connections')::int
      + coalesce(current_setting('reserved_connections', true), '0')::int AS reserved,
    (SELECT nullif(rolconnlimit, -1) FROM pg_roles WHERE rolname = current_user AND NOT rolsuper) AS role_limit,
    (SELECT nullif(datconnlimit, -1) FROM pg_database, pg_roles
      WHERE datname = current_database() AND rolname = current_user AND NOT rolsuper) AS database_limit,
    (SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()) AS encrypted,
    count(*) FILTER (WHERE application_name = current_setting('application_name'))::int AS own,
    count(*) FILTER (WHERE application_name IS DISTINCT FROM current_setting('application_name'))::int AS others
  FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()`

const timeoutsQuestion = `
  SELECT name, setting FROM pg_settings WHERE name IN ('statement_timeout', 'lock_timeout', 'idle_session_timeout',
    'idle_in_transaction_session_timeout', 'transaction_timeout')`

/** @returns null if the server does not know one of the questions, as a version before 10, or does not permit it */
export async function gatherServer (client: pg.Client, unread: Unread[]): Promise<ServerFacts | null> {
  try {
    return await askServer(client)
  } catch (error) {
    // Without its connection nothing else can be asked.
    if (failureKind(error) === 'connection-lost') throw error
    unread.push({ what: 'limits and timeouts of the server', why: messageOf(error), how: 'use another login' })
    return null
  }
}

async function askServer (client: pg.Client): Promise<ServerFacts> {
  const { rows: [row] } = await client.query(limitsQuestion)
  const { rows } = await client.query<{ name: string, setting: string }>(timeoutsQuestion)
  return {
    version: row.version,
    maxConnections: row.max_connections,
    reserved: row.reserved,
    roleLimit: row.role_limit,
    databaseLimit: row.database_limit,
    encrypted: row.encrypted,
    connections: { own: row.own, others: row.others },
    timeouts: Object.fromEntries(rows.map(({ name, setting }) => [name, Number(setting)]))
  }
}

/** The texts of statements may hold values: the first word alone is read. */
const idleQuestion = `
  SELECT pid, coalesce(usename::text, '') AS "user", coalesce(application_name, '') AS "applicationName",
    host(client_addr) AS address, state LIKE '%(aborted)' AS aborted,
    extract(epoch FROM clock_timestamp() - state_change)::float AS idle,
    extract(epoch FROM clock_timestamp() - xact_start)::float AS open,
    upper(substring(query FROM '^\\s*([A-Za-z]+)')) AS "lastCommand"
  FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' AND pid <> pg_backend_pid()
  ORDER BY state_change`

const preparedQuestion = `
  SELECT count(*)::int AS count, coalesce(extract(epoch FROM clock_timestamp() - min(prepared)), 0)::float AS oldest
  FROM pg_prepared_xacts`

const rightsQuestion = 'SELECT pg_has_role(\'pg_read_all_stats\', \'USAGE\') AS sees_all'

export async function gatherActivity (client: pg.Client, unread: Unread[]): Promise<ActivityFacts | null> {
  try {
    const { rows: [rights] } = await client.query(rightsQuestion)
    if (rights.sees_all !== true) {
      unread.push({
        what: 'sessions of other roles that are idle in transaction',
        why: 'the role sees the state of its own sessions alone',
        how: 'GRANT pg_read_all_stats TO the role, or use another login'
      })
    }
    const { rows: idleInTransaction } = await client.query<IdleTransaction>(idleQuestion)
    const { rows: [preparedTransactions] } = await client.query<ActivityFacts['preparedTransactions']>(preparedQuestion)
    return { idleInTransaction, preparedTransactions: preparedTransactions! }
  } catch (error) {
    unread.push({ what: 'the activity of the server', why: messageOf(error), how: 'use another login' })
    return null
  }
}
