import { parse } from 'pg-connection-string'
import { pgScopeError } from '../errors.ts'
import { isOneOf, isPort, isText, type Rule } from './option-rules.ts'

/**
 * The fields of a connection URL, named as in pg.Client. A field that the URL does not contain is undefined.
 * (https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS)
 */
export interface UrlFields {
  host?: string
  port?: number
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
}

const tls = ['ssl', 'sslmode', 'sslcert', 'sslkey', 'sslrootcert', 'sslnegotiation', 'uselibpqcompat']
const fields = ['application_name', 'fallback_application_name', 'client_encoding', 'options'] as const

/** The supported parameters. `db` and `encoding` belong to the form socket:/folder?db=shop. */
const supported = ['host', 'port', 'user', 'password', 'db', 'encoding', ...tls, 'channel_binding', ...fields]

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
  target_session_attrs: 'Use the host of the primary; several hosts are not supported.',
  dbname: 'Put the database into the path: postgres://host/database.',
  replication: 'Replication connections are not supported.'
}

const values: Record<string, Rule> = {
  port: (value) => isPort(Number(value)),
  ssl: isOneOf('true', 'false', '1', '0', 'no-verify'),
  sslmode: isOneOf('disable', 'prefer', 'require', 'verify-ca', 'verify-full', 'no-verify'),
  sslnegotiation: isOneOf('postgres', 'direct'),
  uselibpqcompat: isOneOf('true', 'false'),
  channel_binding: isOneOf('disable', 'prefer', 'require')
}

const malformed = '`connectionString` must be a URL such as postgres://user:password@host:5432/database, ' +
  'got another string. ' +
  'Characters such as # / ? @ % in a password must be percent-encoded.'

/**
 * Reads a connection URL. Rejects parameters that would have no effect.
 *
 * @throws FST_PG_SCOPE_OPTIONS
 */
export function readConnectionUrl (text: string): UrlFields {
  const folder = text.startsWith('/') // a socket's folder, a space and the database
  if (!folder) checkParameters(text)
  let parsed: Record<string, unknown>
  try {
    parsed = parse(text) as unknown as Record<string, unknown>
  } catch (error) { // only the parser detects a bad percent-encoding or a missing certificate file
    if (error instanceof URIError) throw rejected(malformed)
    throw rejected(`\`connectionString\`: ${(error as Error).message}.`, error)
  }
  const result: UrlFields = Object.create(null)
  for (const name of ['host', 'user', 'password', 'database', 'sslnegotiation', ...fields] as const) {
    const value = parsed[name]
    // An empty part counts as absent: postgres:///shop has no host, postgres://app:@host has no password.
    if (value === undefined || value === null || value === '') continue
    const expected = isText(value)
    if (expected !== null) throw rejected(`\`connectionString\`: the ${name} must be ${expected}.`)
    result[name] = value as string
  }
  if (parsed.port !== undefined && parsed.port !== null && parsed.port !== '') result.port = Number(parsed.port)
  if (parsed.ssl !== undefined) result.ssl = tlsOf(parsed.ssl)
  if (parsed.channel_binding !== undefined) result.enableChannelBinding = parsed.channel_binding !== 'disable'
  return result
}

function checkParameters (text: string): void {
  const url = URL.canParse(text) ? new URL(text) : null
  if (url === null || !['postgres:', 'postgresql:', 'socket:'].includes(url.protocol)) throw rejected(malformed)
  for (const [name, value] of url.searchParams) {
    if (!supported.includes(name)) {
      const remedy = Object.hasOwn(instead, name) ? instead[name] : `Supported parameters: ${supported.join(', ')}.`
      throw rejected(`\`connectionString\`: the parameter \`${name}\` is not supported. ${remedy}`)
    }
    const expected = Object.hasOwn(values, name) && value !== '' ? values[name]!(value) : null
    if (expected === null) continue
    throw rejected(`\`connectionString\`: the parameter \`${name}\` must be ${expected}, got ${JSON.stringify(value)}.`)
  }
}

/** The parser returns some values unchanged. */
function tlsOf (ssl: unknown): boolean | object {
  if (ssl === 'no-verify') return { rejectUnauthorized: false }
  return typeof ssl === 'object' && ssl !== null ? ssl : ssl === true
}

function rejected (message: string, cause?: unknown): Error {
  return pgScopeError('FST_PG_SCOPE_OPTIONS', message, cause)
}
