import { parse } from 'pg-connection-string'
import { pgScopeError } from '../errors.ts'
import type { TargetSessionAttrs } from '../../types/options.ts'
import { isLoadBalanceHosts, isTargetSessionAttrs } from './option-lists.ts'
import { isOneOf, isPort, isPortList, isText, type Rule } from './option-rules.ts'
import { splitHosts } from './url-hosts.ts'

/**
 * The fields of a connection URL, named as in pg.Client. A field that the URL does not contain is undefined.
 * (https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS)
 */
export interface UrlFields {
  /** Several hosts are a list with commas, as in libpq. */
  host?: string
  /** Several ports are such a list, with an empty element where the URL has none. */
  port?: number | string
  user?: string
  password?: string
  database?: string
  ssl?: boolean | object
  sslnegotiation?: string
  application_name?: string
  fallback_application_name?: string
  client_encoding?: string
  options?: string
  enableChannelBinding?: boolean
  targetSessionAttrs?: TargetSessionAttrs
  loadBalanceHosts?: 'disable' | 'random'
}

const tls = ['ssl', 'sslmode', 'sslcert', 'sslkey', 'sslrootcert', 'sslnegotiation', 'uselibpqcompat']
const fields = ['application_name', 'fallback_application_name', 'client_encoding', 'options'] as const

/** The supported parameters. `db` and `encoding` belong to the form socket:/folder?db=shop. */
const supported = [
  'host', 'port', 'user', 'password', 'db', 'encoding', 'target_session_attrs', 'load_balance_hosts', ...tls,
  'channel_binding', ...fields
]

/** Parameters of pg, libpq and other drivers, and what to use instead. */
const instead: Record<string, string> = {
  statement_timeout: 'Use the option `statementTimeout`.',
  lock_timeout: 'Use the option `lockTimeout`.',
  idle_in_transaction_session_timeout: 'Use the option `idleInTransactionTimeout`.',
  query_timeout: 'Use the options `statementTimeout` and `answerTimeout`.',
  schema: 'Use the option `settings: { search_path: … }`.',
  connection_limit: 'Use the option `pool.max`.',
  max: 'Use the option `pool.max`.',
  min: 'Use the option `pool.min`.',
  pool_timeout: 'Use the option `pool.acquireTimeout`.',
  connect_timeout: 'Use the option `pool.acquireTimeout`.',
  max_idle_connection_lifetime: 'Use the option `pool.idleTimeout`.',
  max_connection_lifetime: 'Use the option `pool.maxLifetime`.',
  socket_timeout: 'Use the option `answerTimeout`.',
  pgbouncer: 'PgBouncer is detected automatically; the option `pooler` overrides the detection.',
  statement_cache_size: 'Use the option `preparedStatements`.',
  sslaccept: 'Use `sslmode` or the option `ssl`.',
  keepalives: 'Use the option `keepAlive`.',
  keepalives_idle: 'Use the option `keepAliveInitialDelayMillis`.',
  dbname: 'Put the database into the path: postgres://host/database.',
  replication: 'Replication connections are not supported.'
}

const values: Record<string, Rule> = {
  port: (value) => isPortList(value) ? null : isPort(Number(value)),
  target_session_attrs: isTargetSessionAttrs,
  load_balance_hosts: isLoadBalanceHosts,
  ssl: isOneOf('true', 'false', '1', '0', 'no-verify'),
  sslmode: isOneOf('disable', 'prefer', 'require', 'verify-ca', 'verify-full', 'no-verify'),
  sslnegotiation: isOneOf('postgres', 'direct'),
  uselibpqcompat: isOneOf('true', 'false'),
  channel_binding: isOneOf('disable', 'prefer', 'require')
}

const malformed = 'must be a URL such as postgres://user:password@host:5432/database, got another string. ' +
  'Characters such as # / ? @ % in a password must be percent-encoded.'

/**
 * Reads a connection URL. Rejects parameters that would have no effect.
 *
 * @param option the option that it was given by
 * @throws FST_PG_SCOPE_OPTIONS
 */
export function readConnectionUrl (text: string, option = 'connectionString'): UrlFields {
  const folder = text.startsWith('/') // a socket's folder, a space and the database
  const split = folder ? null : splitHosts(text)
  if (split === 'malformed') throw rejected(`\`${option}\` ${malformed}`)
  const url = split?.url ?? text
  if (!folder) checkParameters(url, option)
  let parsed: Record<string, unknown>
  try {
    parsed = parse(url) as unknown as Record<string, unknown>
  } catch (error) { // only the parser detects a bad percent-encoding or a missing certificate file
    if (error instanceof URIError) throw rejected(`\`${option}\` ${malformed}`)
    throw rejected(`\`${option}\`: ${(error as Error).message}.`, error)
  }
  const result: UrlFields = Object.create(null)
  for (const name of ['host', 'user', 'password', 'database', 'sslnegotiation', ...fields] as const) {
    const value = parsed[name]
    // An empty part counts as absent: postgres:///shop has no host, postgres://app:@host has no password.
    if (value === undefined || value === null || value === '') continue
    const expected = isText(value)
    if (expected !== null) throw rejected(`\`${option}\`: the ${name} must be ${expected}.`)
    result[name] = value as string
  }
  if (parsed.port !== undefined && parsed.port !== null && parsed.port !== '') result.port = portOf(parsed.port)
  if (split !== null) {
    // The parameter `host` replaces the hosts alone, as in libpq.
    if (result.host === split.placeholder) result.host = split.host
    if (split.port !== undefined) result.port ??= split.port
  }
  if (parsed.target_session_attrs) result.targetSessionAttrs = parsed.target_session_attrs as TargetSessionAttrs
  if (parsed.load_balance_hosts) result.loadBalanceHosts = parsed.load_balance_hosts as 'disable' | 'random'
  if (parsed.ssl !== undefined) result.ssl = tlsOf(parsed.ssl)
  if (parsed.channel_binding !== undefined) result.enableChannelBinding = parsed.channel_binding !== 'disable'
  return result
}

function checkParameters (text: string, option: string): void {
  const url = URL.canParse(text) ? new URL(text) : null
  if (url === null || !['postgres:', 'postgresql:', 'socket:'].includes(url.protocol)) {
    throw rejected(`\`${option}\` ${malformed}`)
  }
  for (const [name, value] of url.searchParams) {
    if (!supported.includes(name)) {
      const remedy = Object.hasOwn(instead, name) ? instead[name] : `Supported parameters: ${supported.join(', ')}.`
      throw rejected(`\`${option}\`: the parameter \`${name}\` is not supported. ${remedy}`)
    }
    const expected = Object.hasOwn(values, name) && value !== '' ? values[name]!(value) : null
    if (expected === null) continue
    throw rejected(`\`${option}\`: the parameter \`${name}\` must be ${expected}, got ${JSON.stringify(value)}.`)
  }
}

function portOf (text: unknown): number | string {
  return isPortList(text) ? text : Number(text)
}

/** The parser returns some values unchanged. */
function tlsOf (ssl: unknown): boolean | object {
  if (ssl === 'no-verify') return { rejectUnauthorized: false }
  return typeof ssl === 'object' && ssl !== null ? ssl : ssl === true
}

function rejected (message: string, cause?: unknown): Error {
  return pgScopeError('FST_PG_SCOPE_OPTIONS', message, cause)
}
