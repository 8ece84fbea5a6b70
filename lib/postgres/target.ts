import pg from 'pg'
import { pgScopeError, type PgScopeError } from '../errors.ts'
import { isLoginFailure, loginReason } from './login.ts'
import { failureKind } from './sqlstate.ts'

/** The server and the login, as pg derives them from the options and the environment; without the password. */
export interface Target {
  readonly host: string
  readonly port: number
  readonly database: string
  readonly user: string
}

export function targetOf (config: pg.ClientConfig): Target {
  const { host, port, database, user } = new pg.Client(config)
  return { host, port, database: database ?? user ?? '', user: user ?? '' }
}

/**
 * What a client would send when it logs in, as pg derives it.
 *
 * @throws FST_PG_SCOPE_OPTIONS for options that pg rejects, such as PGSSLNEGOTIATION=direct without TLS
 */
export function startupOf (
  config: pg.ClientConfig
): Target & Readonly<Record<'password' | 'options' | 'application_name', unknown>> {
  try {
    // Private to pg.
    const {
      password, connectionParameters
    } = new pg.Client(config) as pg.Client & { connectionParameters: Record<string, unknown> }
    const { options, application_name: name } = connectionParameters
    return { ...targetOf(config), password, options, application_name: name }
  } catch (error) {
    throw pgScopeError(
      'FST_PG_SCOPE_OPTIONS', `The connection's options contradict each other: ${(error as Error).message}.`, error
    )
  }
}

export function nameOf ({ host, port, database, user }: Target): string {
  return `database "${database}" on ${host}:${port} as user "${user}"`
}

/** The error for a connection that could not be opened: why, and what to do. */
export function connectError (error: unknown, target: Target): PgScopeError {
  const reason = isLoginFailure(error)
    ? loginReason(error)
    : (error as Error)?.message || (error as { code?: string })?.code || String(error)
  switch (failureKind(error)) {
    case 'login':
      return pgScopeError(
        'FST_PG_SCOPE_LOGIN_REFUSED',
        `${nameOf(target)}: the server refused the login (${reason}). Check user, password and database, and on the ` +
          'server pg_hba.conf and the privilege to connect (GRANT CONNECT).',
        error
      )
    case 'too-many-connections':
      return pgScopeError(
        'FST_PG_SCOPE_UNREACHABLE',
        `${nameOf(target)}: the server has no connection left (${reason}). Lower pool.max, or raise max_connections ` +
          '(behind PgBouncer: max_client_conn).',
        error
      )
    default:
      return pgScopeError(
        'FST_PG_SCOPE_UNREACHABLE',
        `${nameOf(target)} cannot be reached (${reason}). Check host and port, and whether the server is up.`,
        error
      )
  }
}
