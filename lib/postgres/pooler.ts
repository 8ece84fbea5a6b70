import pg from 'pg'
import type { Pooler } from '../../types/engine.ts'
import { failureKind } from './sqlstate.ts'
import { connectError, type Target } from './target.ts'

export interface Found {
  readonly pooler: Pooler
  /** server_version_num: 170004 is 17.4. */
  readonly version: number
}

/**
 * Connects once, and looks at what answers: behind a pooler the process id that the connection was given is not the backend's.
 *
 * @param timeout milliseconds
 * @throws FST_PG_SCOPE_UNREACHABLE, FST_PG_SCOPE_LOGIN_REFUSED
 */
export async function look (config: pg.ClientConfig, target: Target, timeout: number): Promise<Found> {
  const client = new pg.Client({ ...config, connectionTimeoutMillis: timeout, query_timeout: timeout }) as pg.Client & { connection: pg.Connection, processID: number }
  let mode: string | undefined
  // PgBouncer says so itself from 1.26 on; earlier ones do not tell transaction from session mode.
  client.connection.on('parameterStatus', ({ parameterName, parameterValue }: { parameterName: string, parameterValue: string }) => {
    if (parameterName === 'pgbouncer.pool_mode') mode = parameterValue
  })
  client.on('error', () => {})
  try {
    await client.connect()
    const { rows: [row] } = await client.query<{ pid: number, version: number }>('SELECT pg_backend_pid() AS pid, current_setting(\'server_version_num\')::int AS version')
    return {
      version: row!.version,
      pooler: row!.pid === client.processID ? { kind: 'none' } : { kind: 'pgbouncer', mode: mode === 'session' ? 'session' : 'transaction' }
    }
  } catch (error) {
    throw connectError(error, target)
  } finally {
    client.end().catch(() => {})
  }
}

/** What PgBouncer says to a startup parameter that it does not know. */
export function refusesStartup (error: unknown): boolean {
  return failureKind(error) === 'connection-lost' && /unsupported startup parameter/.test((error as Error).message)
}
