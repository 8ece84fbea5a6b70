import type { Hosts } from '../postgres/hosts.ts'
import { hasNoServer } from '../postgres/sqlstate.ts'
import type { Connection } from './connection.ts'
import type { ConnectionSource } from './sources/connection-source.ts'
import { wasCutOff } from './sources/cut-off.ts'

/**
 * After a restart of PostgreSQL, PgBouncer refuses the first connection and logs in to the server only then. How
 * long a waiter may wait for that, and the time between two attempts. Milliseconds; a little more than
 * server_login_retry in docs/pgbouncer.ini.
 */
const timeout = 1500
const interval = 100

/**
 * Retries after such a refusal; with several hosts, as long as another attempt may succeed.
 *
 * @param since performance.now() when the first waiter began to wait
 * @param hosts several hosts, or null
 * @returns whether it does
 */
export function retriesLogin (error: unknown, since: number, hosts: Hosts | null, retry: () => void): boolean {
  if (hosts?.isAwaited(error) === true) {
    retry()
    return true
  }
  if (!hasNoServer(error) || performance.now() - since >= timeout) return false
  setTimeout(retry, interval)
  return true
}

/**
 * Takes a connection from the source. A login that was cut off before any answer came, as by a PgBouncer that is
 * replaced (so_reuseport), is tried once more at once: nothing but the startup packet was sent.
 */
export function takeFrom (
  source: ConnectionSource, done: (error: unknown, connection: Connection | null) => void
): void {
  source.take((error, connection) => {
    if (wasCutOff(error)) source.take(done)
    else done(error, connection)
  })
}
