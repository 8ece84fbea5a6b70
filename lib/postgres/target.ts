import pg from 'pg'
import { pgScopeError, type PgScopeError } from '../errors.ts'
import type { EngineIdentity } from '../../types/telemetry.ts'
import { type Hosts, hostsOf } from './hosts.ts'
import { failureReason } from './login.ts'
import { failureKind } from './sqlstate.ts'

/** The server and the login, as pg derives them from the options and the environment; without the password. */
export interface Target {
  readonly host: string
  readonly port: number
  readonly database: string
  readonly user: string
  /** If there are several hosts; `host` and `port` are those of the first one. */
  readonly hosts?: Hosts | null
}

export function targetOf (config: pg.ClientConfig): Target {
  const { host, port, database, user } = new pg.Client(config)
  return { host, port, database: database ?? user ?? '', user: user ?? '', hosts: hostsOf(config) }
}

/** For telemetry. Of several hosts it names the one in use. */
export function identityOf (
  db: EngineIdentity['db'], decorator: string, { host, port, database, user, hosts }: Target
): EngineIdentity {
  if (hosts == null) return Object.freeze({ db, decorator, host, port, database, user })
  return Object.freeze({
    db,
    decorator,
    get host () { return hosts.main.host },
    get port () { return hosts.main.port },
    database,
    user
  })
}

/**
 * What a client would send when it logs in, as pg derives it.
 *
 * @throws FST_PG_SCOPE_OPTIONS for options that pg rejects, such as PGSSLNEGOTIATION=direct without TLS
 */
export function startupOf (
  config: pg.ClientConfig
): Omit<Target, 'hosts'> & Readonly<Record<'password' | 'options' | 'application_name', unknown>> {
  try {
    // Private to pg.
    const {
      password, connectionParameters
    } = new pg.Client(config) as pg.Client & { connectionParameters: Record<string, unknown> }
    const { options, application_name: name } = connectionParameters
    const { hosts: _, ...target } = targetOf(config)
    return { ...target, password, options, application_name: name }
  } catch (error) {
    throw pgScopeError(
      'FST_PG_SCOPE_OPTIONS', `The connection's options contradict each other: ${(error as Error).message}.`, error
    )
  }
}

export function nameOf ({ host, port, database, user, hosts }: Target): string {
  return `database "${database}" on ${hosts?.names ?? `${host}:${port}`} as user "${user}"`
}

/** The error for a connection that could not be opened: why, and what to do. */
export function connectError (error: unknown, target: Target): PgScopeError {
  const reason = target.hosts?.problems ?? failureReason(error)
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
