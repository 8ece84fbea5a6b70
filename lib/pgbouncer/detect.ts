import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import type { Pooler } from '../../types/engine.ts'
import { ownFields } from '../own-fields.ts'
import { readAnswersOf } from '../postgres/answers.ts'
import { ProtocolViolation } from '../postgres/backend-messages.ts'
import { failureKind, isFarewell, ranOutOfTime } from '../postgres/sqlstate.ts'
import { type CheckHost, hostsOf, onSomeHost, timeoutOfOne } from '../postgres/hosts.ts'
import { announcedRole, type ServerRole } from '../postgres/server-role.ts'
import { connectError, type Target } from '../postgres/target.ts'

export interface Found {
  readonly pooler: Pooler
  /** server_version_num: 170004 is 17.4. */
  readonly version: number
  /** The version as the server announced it: '17.4'. */
  readonly serverVersion: string | undefined
  /** The search_path has one schema only, besides PostgreSQL's own. */
  readonly oneSchema: boolean
}

/** Whether the search_path has at most one schema, and whether this session ever created a temporary object. */
export const searchPathQuestion = 'SELECT cardinality(current_schemas(false)) < 2, pg_my_temp_schema() <> 0'

type AlsoAsk = (client: pg.Client, pooler: Pooler) => Promise<void>

/**
 * PgBouncer may use a server connection that has just died. After a restart of PostgreSQL it also refuses
 * connections until server_login_retry has passed (1 s in docs/pgbouncer.ini). How long to retry, and the time
 * between attempts. Milliseconds.
 */
const retryTimeout = 1500
const retryInterval = 100

/**
 * Connects and detects a pooler: behind one, the process id announced at login is not that of the backend. If it does
 * not announce what it is, another login tells whether it is a PgBouncer before 1.26.
 *
 * @param timeout milliseconds
 * @param also further questions to ask on the same connection
 * @throws FST_PG_SCOPE_UNREACHABLE, FST_PG_SCOPE_LOGIN_REFUSED
 */
export async function detectPooler (
  config: pg.ClientConfig, target: Target, timeout: number, also?: AlsoAsk
): Promise<Found> {
  const attemptTimeout = timeoutOfOne(hostsOf(config), timeout)
  for (const deadline = performance.now() + Math.min(timeout, retryTimeout); ; await sleep(retryInterval)) {
    try {
      return await onSomeHost(config, (one, check) => detectOnce(one, attemptTimeout, check, also))
    } catch (error) {
      const isTemporary = failureKind(error) === 'connection-lost' && isFarewell(error) && !ranOutOfTime(error)
      if (!isTemporary || performance.now() > deadline) throw connectError(error, target)
    }
  }
}

const startupQuestion = 'SELECT pg_backend_pid() AS pid, current_setting(\'server_version_num\')::int AS version, ' +
  'cardinality(current_schemas(false)) < 2 AS one_schema'

async function detectOnce (
  config: pg.ClientConfig, timeout: number, check: CheckHost, also?: AlsoAsk
): Promise<Found> {
  const client = new pg.Client(ownFields(config, { connectionTimeoutMillis: timeout, query_timeout: timeout }))
  const parameters = new ServerParameters(client)
  client.on('error', () => {})
  readAnswersOf(client)
  try {
    await client.connect()
    await check(client, parameters.role)
    const { rows: [row] } = await client.query<{ pid: number, version: number, one_schema: boolean }>(startupQuestion)
    if (row === undefined) throw new ProtocolViolation('the server answered a SELECT without a row')
    const detected = parameters.pooler(Number(row.pid))
    const isOld = detected.kind === 'unknown' && await refusesMarker(config, timeout)
    const pooler = isOld ? olderPgBouncer : detected
    await also?.(client, pooler)
    client.end().catch(() => {})
    return {
      version: Number(row.version),
      serverVersion: parameters.serverVersion,
      oneSchema: row.one_schema,
      pooler
    }
  } catch (error) {
    // A server that fails here might not react to Terminate.
    client.connection.stream.destroy()
    throw error
  }
}

/** What is known of a PgBouncer before 1.26, which does not announce itself: nothing tells its mode. */
export const olderPgBouncer: Pooler = Object.freeze({
  kind: 'pgbouncer', mode: 'transaction', preparedStatements: false
})

/** A startup parameter that PgBouncer refuses by its name. PostgreSQL accepts every name with a dot. */
const marker = 'fastify_pg_scope.pooler'

/** Whether this is PgBouncer: other poolers accept the marker, ignore it, or refuse it in other words. */
export async function refusesMarker (config: pg.ClientConfig, timeout: number): Promise<boolean> {
  const client = new pg.Client(ownFields(config, { connectionTimeoutMillis: timeout, query_timeout: timeout }))
  const startup = client as unknown as { getStartupConf (): Record<string, string> } // private to pg
  const { getStartupConf } = startup
  startup.getStartupConf = () => ({ ...getStartupConf.call(client), [marker]: 'auto' })
  client.on('error', () => {})
  readAnswersOf(client)
  try {
    await client.connect()
    client.end().catch(() => {})
    return false
  } catch (error) {
    client.connection.stream.destroy()
    return refusesStartup(error, [marker])
  }
}

/** The parameters that the server announces at login. PgBouncer 1.26 and later adds its version, mode and more. */
export class ServerParameters {
  readonly #client: pg.Client & { processID: number }
  /** The version that the server, or the pooler in its place, announced. */
  serverVersion: string | undefined
  readonly #parameters = new Map<string, string>()
  /** Called when the server announces that it is or is not a standby, or read-only by default. */
  onRoleChange: (() => void) | null = null

  constructor (client: pg.Client) {
    this.#client = client as pg.Client & { processID: number } // which the types of pg do not show
    client.connection.on('parameterStatus', (
      { parameterName, parameterValue }: { parameterName: string, parameterValue: string }
    ) => {
      if (parameterName === 'server_version') this.serverVersion = parameterValue
      else if (parameterName === 'in_hot_standby' || parameterName === 'default_transaction_read_only') {
        this.#parameters.set(parameterName, parameterValue)
        this.onRoleChange?.()
      } else if (parameterName.startsWith('pgbouncer.')) this.#parameters.set(parameterName, parameterValue)
    })
  }

  /** Whether the server is a standby, and read-only, as it announced from PostgreSQL 14 on; null otherwise. */
  get role (): ServerRole | null {
    return announcedRole(this.#parameters.get('in_hot_standby'), this.#parameters.get('default_transaction_read_only'))
  }

  /** The pooler, if it announced itself; null otherwise. */
  announced (): Pooler | null {
    const version = this.#parameters.get('pgbouncer.version')
    if (version === undefined) return null
    return {
      kind: 'pgbouncer',
      mode: this.#parameters.get('pgbouncer.pool_mode') === 'session' ? 'session' : 'transaction',
      version,
      preparedStatements: Number(this.#parameters.get('pgbouncer.max_prepared_statements') ?? 0) > 0
    }
  }

  /**
   * @param backend the process id of the backend. A pooler announces ids of its own instead.
   * @returns 'unknown' for a pooler that did not announce itself
   */
  pooler (backend: number): Pooler {
    const announced = this.announced()
    if (announced !== null) return announced
    return { kind: backend === this.#client.processID ? 'none' : 'unknown' }
  }
}

export function poolerSetByHand (
  pooler: 'none' | 'session' | 'transaction', preparedStatements = pooler === 'session'
): Pooler {
  return pooler === 'none' ? { kind: 'none' } : { kind: 'pgbouncer', mode: pooler, preparedStatements }
}

/** PgBouncer's message for a startup parameter that it does not know. */
const unsupported = /unsupported startup parameter: ([\w.]+)/

/** @param parameters the parameters that this package sends. A refusal of any other one would only repeat. */
export function refusesStartup (error: unknown, parameters: readonly string[]): boolean {
  if (failureKind(error) !== 'connection-lost') return false
  const parameter = unsupported.exec((error as Error).message)?.[1]
  return parameter !== undefined && parameters.includes(parameter)
}
