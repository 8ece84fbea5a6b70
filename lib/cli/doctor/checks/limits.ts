import type { AppFacts, PgBouncerFacts, ServerFacts } from '../facts.ts'
import { bySql, type Change, type Check, type Finding, inOptions, inPgBouncer, inServer } from '../finding.ts'

/** A deployment runs the new processes beside the old ones for a moment. */
const deployment = 2

interface Limit {
  readonly id: string
  readonly name: string
  readonly value: number
  raise (to: number): Change
}

/** The connections of all processes against each limit on their way. */
export const checkLimits: Check = ({ app, pgbouncer, pooler, server }, processes) => {
  const limits = pooler.kind === 'none' && server !== null
    ? serverLimits(server)
    : pgbouncer === null ? [] : clientLimits(pgbouncer)
  return [
    ...limits.flatMap((limit) => checkSum(app, processes, limit)),
    ...(pgbouncer === null ? [] : checkPools(app, processes, pgbouncer, server)),
    ...(server === null ? [] : checkUse(server))
  ]
}

function checkSum ({ max }: AppFacts, processes: number, limit: Limit): Finding[] {
  const needed = processes * max
  if (needed * deployment <= limit.value) return []
  const sum = `${processes} ${processes === 1 ? 'process' : 'processes'} × pool.max ${max} = ${needed}`
  const most = Math.floor(limit.value / processes / deployment)
  const change = limit.raise(roundUp(needed * deployment))
  const orLower = most >= 1 ? `${change.line}, or pool: { max: ${most} } in the plugin's options` : change.line
  return [{
    id: limit.id,
    severity: needed > limit.value ? 'error' : 'warning',
    found: needed > limit.value
      ? `${sum} connections, and ${limit.name} allows ${limit.value}`
      : `${sum} connections, ${needed * deployment} while a deployment replaces the processes, and ${limit.name} ` +
        `allows ${limit.value}`,
    why: 'A connection above the limit is refused, and its request is answered with 503 (FST_PG_SCOPE_UNREACHABLE)',
    change: { ...change, line: orLower }
  }]
}

function serverLimits (server: ServerFacts): Limit[] {
  const { maxConnections, reserved, roleLimit, databaseLimit } = server
  const limits: Limit[] = [{
    id: 'max-connections',
    name: `max_connections ${maxConnections} less ${reserved} reserved ones`,
    value: maxConnections - reserved,
    raise: (to) => inServer(`max_connections = ${to + reserved}`)
  }]
  return [...limits, ...ofRoleAndDatabase(roleLimit, databaseLimit)]
}

function ofRoleAndDatabase (roleLimit: number | null, databaseLimit: number | null): Limit[] {
  const limits: Limit[] = []
  if (roleLimit !== null) {
    limits.push({
      id: 'role-connection-limit',
      name: 'the CONNECTION LIMIT of the role',
      value: roleLimit,
      raise: (to) => bySql(`ALTER ROLE … CONNECTION LIMIT ${to}`)
    })
  }
  if (databaseLimit !== null) {
    limits.push({
      id: 'database-connection-limit',
      name: 'the CONNECTION LIMIT of the database',
      value: databaseLimit,
      raise: (to) => bySql(`ALTER DATABASE … CONNECTION LIMIT ${to}`)
    })
  }
  return limits
}

function clientLimits ({ config, clientLimits }: PgBouncerFacts): Limit[] {
  const all = { max_client_conn: Number(config.max_client_conn), ...clientLimits }
  return Object.entries(all).filter(([, value]) => Number.isFinite(value)).map(([name, value]) => ({
    id: name.replaceAll('_', '-'),
    name: `PgBouncer's ${name}`,
    value,
    raise: (to) => inPgBouncer(`${name} = ${to}`)
  }))
}

/** The connections between PgBouncer and the server. */
function checkPools (
  app: AppFacts, processes: number, pgbouncer: PgBouncerFacts, server: ServerFacts | null
): Finding[] {
  const { poolSize, reserveSize, connectionLimit, allPools, mode } = pgbouncer
  const size = Math.min(poolSize + reserveSize, connectionLimit ?? Infinity)
  const clients = processes * app.max
  const findings: Finding[] = []
  const limitedBy = connectionLimit !== null && connectionLimit < poolSize + reserveSize
    ? 'max_db_connections or max_user_connections'
    : 'default_pool_size'
  if (clients > size) {
    const holds = mode === 'session' && app.strategy === 'queue'
    findings.push({
      id: 'pool-size',
      severity: holds ? 'error' : clients > 2 * size ? 'warning' : 'note',
      found: `up to ${clients} sessions at a time (${processes} × pool.max ${app.max}) share ${size} server ` +
        `connections (${limitedBy})`,
      why: holds
        ? 'In session mode each connection of the pool keeps a server connection: those above the limit wait until ' +
          'query_wait_timeout and fail'
        : 'The others wait inside PgBouncer, where neither pool.acquireTimeout nor a cancellation reaches them. ' +
          'A wait in the app is bounded and ends early',
      change: inOptions(`pool: { max: ${Math.max(1, Math.floor(size / processes))} }, or ` +
        `${limitedBy === 'default_pool_size' ? limitedBy : 'these limits'} = ${clients} in pgbouncer.ini`)
    })
  }
  if (server === null) return findings
  const room = server.maxConnections - server.reserved
  const total = Math.max(allPools.size, size)
  if (total > room) {
    findings.push({
      id: 'pool-size-max-connections',
      severity: size > room ? 'error' : 'warning',
      found: `PgBouncer may open ${total} connections for ${Math.max(allPools.count, 1)} ` +
        `${allPools.count > 1 ? 'pools' : 'pool'}, and max_connections ${server.maxConnections} less ` +
        `${server.reserved} reserved ones leaves ${room}`,
      why: 'PostgreSQL refuses the connections above ("too many clients"), PgBouncer waits for ' +
        'server_login_retry, and requests fail meanwhile',
      change: inPgBouncer(`default_pool_size = ${Math.max(1, Math.floor(room * 0.8 / Math.max(allPools.count, 1)))}`)
    })
  }
  for (const { id, name, value, raise } of ofRoleAndDatabase(server.roleLimit, server.databaseLimit)) {
    if (size <= value) continue
    findings.push({
      id,
      severity: 'error',
      found: `PgBouncer may open ${size} connections for this pool, and ${name} allows ${value}`,
      why: 'PostgreSQL refuses the connections above, and requests fail meanwhile',
      change: raise(size)
    })
  }
  return findings
}

function checkUse ({ maxConnections, reserved, connections }: ServerFacts): Finding[] {
  const used = connections.own + connections.others
  const room = maxConnections - reserved
  if (used < room * 0.9) return []
  return [{
    id: 'server-nearly-full',
    severity: 'warning',
    found: `${used} of ${room} connections are in use at the moment, ${connections.others} of them under another ` +
      'application_name',
    why: 'The next connections are refused, those of migrations and of people too',
    change: bySql('SELECT application_name, state, count(*) FROM pg_stat_activity GROUP BY 1, 2 shows whose they are')
  }]
}

function roundUp (value: number): number {
  const step = value > 100 ? 100 : 10
  return Math.ceil(value / step) * step
}
