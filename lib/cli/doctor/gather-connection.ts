import type { Socket } from 'node:net'
import { TLSSocket } from 'node:tls'
import type pg from 'pg'
import { refusesMarker, ServerParameters } from '../../pgbouncer/detect.ts'
import { failureKind } from '../../postgres/sqlstate.ts'
import { connectError, type Target } from '../../postgres/target.ts'
import { messageOf, patience } from './ask.ts'
import type { ConnectionFacts, PoolerFacts, TlsFacts } from './facts.ts'
import { networkOf } from './network.ts'

export function failureOf (error: unknown, target: Target): ConnectionFacts['failure'] {
  const kind = failureKind(error)
  return {
    reason: messageOf(connectError(error, target)),
    kind: kind === 'login' ? 'refused' : kind === 'too-many-connections' ? 'full' : 'unreachable'
  }
}

/** @param client connected, or not: then only what is wanted is known */
export function tlsOf (client: pg.Client): TlsFacts {
  const { ssl } = client as { ssl?: boolean | { rejectUnauthorized?: boolean, checkServerIdentity?: unknown } }
  const options = typeof ssl === 'object' ? ssl : {}
  const socket: Socket = client.connection.stream as Socket
  const certificate = socket instanceof TLSSocket ? socket.getPeerCertificate() : null
  return {
    protocol: socket instanceof TLSSocket ? socket.getProtocol() : null,
    wanted: ssl !== undefined && ssl !== false,
    verified: options.rejectUnauthorized !== false,
    nameChecked: options.checkServerIdentity === undefined,
    channelBinding: (client as { enableChannelBinding?: boolean }).enableChannelBinding === true,
    expires: certificate?.valid_to === undefined ? null : Date.parse(certificate.valid_to),
    network: socket.destroyed ? null : networkOf(socket.remoteAddress)
  }
}

/** Names of services whose poolers do not say what they are, by their host names. */
const services: readonly [RegExp, string][] = [
  [/\.pooler\.supabase\.com$/, 'Supavisor'],
  [/\.proxy-[\w-]+\.[\w-]+\.rds\.amazonaws\.com$/, 'RDS Proxy'],
  [/-pooler\.[\w.-]+\.neon\.tech$/, 'Neon\'s PgBouncer']
]

/**
 * What stands in between, as far as the connection tells. Behind a pooler, the process id that was announced at login
 * is not that of the backend.
 */
export async function poolerOf (
  client: pg.Client, parameters: ServerParameters, config: pg.ClientConfig, target: Target
): Promise<PoolerFacts> {
  const { rows: [row] } = await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')
  const announced = parameters.announced()
  if (announced?.kind === 'pgbouncer') {
    return {
      kind: 'pgbouncer',
      version: announced.version ?? null,
      mode: announced.mode,
      maxPreparedStatements: announced.preparedStatements ? Infinity : 0,
      announced: true
    }
  }
  if (parameters.serverVersion?.includes('PgDog')) return { kind: 'other', name: 'PgDog' }
  const service = services.find(([pattern]) => pattern.test(target.host))
  if (service !== undefined) return { kind: 'other', name: service[1] }
  const { processID } = client as pg.Client & { processID: number }
  if (Number(row?.pid) === processID) return { kind: 'none' }
  if (!await refusesMarker(config, patience)) return { kind: 'unknown' }
  return { kind: 'pgbouncer', version: null, mode: null, maxPreparedStatements: null, announced: false }
}

/** What pg_stat_activity shows of this session. */
export async function applicationNameOf (client: pg.Client, sent: string): Promise<ConnectionFacts['applicationName']> {
  const { rows: [row] } = await client.query<{ seen: string | null }>(
    'SELECT application_name AS seen FROM pg_stat_activity WHERE pid = pg_backend_pid()')
  return { sent, seen: row?.seen ?? '' }
}
