import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import type { Pooler } from '../../types/engine.ts'
import { ownFields } from '../own-fields.ts'
import { readAnswersOf } from '../postgres/answers.ts'
import { ProtocolViolation } from '../postgres/backend-messages.ts'
import { failureKind, isFarewell, ranOutOfTime } from '../postgres/sqlstate.ts'
import { connectError, type Target } from '../postgres/target.ts'

export interface Found {
  readonly pooler: Pooler
  /** server_version_num: 170004 is 17.4. */
  readonly version: number
  /** As the server announced it: '17.4'. */
  readonly serverVersion: string | undefined
  /** Names are looked for in one schema only, beside PostgreSQL's own. */
  readonly oneSchema: boolean
}

/** Whether names are looked for in no more than one schema, and whether there ever was a temporary object in this session. */
export const searchPathQuestion = 'SELECT cardinality(current_schemas(false)) < 2, pg_my_temp_schema() <> 0'

type AlsoAsk = (client: pg.Client, pooler: Pooler) => Promise<void>

/**
 * PgBouncer may give out a server connection that has just died, and after a restart of PostgreSQL it refuses whoever comes first
 * until server_login_retry is over (1 s in docs/pgbouncer.ini): for how long that is tried again, and how often. Milliseconds.
 */
const patience = 1500
const pause = 100

/**
 * Connects, and looks at what answers: behind a pooler the process id that the connection was given is not the backend's.
 *
 * @param timeout milliseconds
 * @param also what else is to be asked on the same connection
 * @throws FST_PG_SCOPE_UNREACHABLE, FST_PG_SCOPE_LOGIN_REFUSED
 */
export async function detectPooler (config: pg.ClientConfig, target: Target, timeout: number, also?: AlsoAsk): Promise<Found> {
  for (const deadline = performance.now() + Math.min(timeout, patience); ; await sleep(pause)) {
    try {
      return await detectOnce(config, timeout, also)
    } catch (error) {
      const passing = failureKind(error) === 'connection-lost' && isFarewell(error) && !ranOutOfTime(error)
      if (!passing || performance.now() > deadline) throw connectError(error, target)
    }
  }
}

const startupQuestion = 'SELECT pg_backend_pid() AS pid, current_setting(\'server_version_num\')::int AS version, ' +
  'cardinality(current_schemas(false)) < 2 AS one_schema'

async function detectOnce (config: pg.ClientConfig, timeout: number, also?: AlsoAsk): Promise<Found> {
  const client = new pg.Client(ownFields(config, { connectionTimeoutMillis: timeout, query_timeout: timeout }))
  const parameters = new ServerParameters(client)
  client.on('error', () => {})
  readAnswersOf(client)
  try {
    await client.connect()
    const { rows: [row] } = await client.query<{ pid: number, version: number, one_schema: boolean }>(startupQuestion)
    if (row === undefined) throw new ProtocolViolation('the server answered a SELECT without a row')
    const pooler = parameters.pooler(Number(row.pid))
    await also?.(client, pooler)
    client.end().catch(() => {})
    return {
      version: Number(row.version),
      serverVersion: parameters.serverVersion,
      oneSchema: row.one_schema,
      pooler
    }
  } catch (error) {
    // Not every server that fails here would heed a goodbye.
    client.connection.stream.destroy()
    throw error
  }
}

/** What a connection says of itself while it is opened: from 1.26 on PgBouncer tells version, mode and more. */
export class ServerParameters {
  readonly #client: pg.Client & { processID: number }
  /** What the server announced, or a pooler in its place. */
  serverVersion: string | undefined
  readonly #parameters = new Map<string, string>()

  constructor (client: pg.Client) {
    this.#client = client as pg.Client & { processID: number } // which the types of pg do not show
    client.connection.on('parameterStatus', ({ parameterName, parameterValue }: { parameterName: string, parameterValue: string }) => {
      if (parameterName === 'server_version') this.serverVersion = parameterValue
      if (parameterName.startsWith('pgbouncer.')) this.#parameters.set(parameterName, parameterValue)
    })
  }

  /** A pooler that says by itself what it is, or null: nobody needs to be asked any more. */
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

  /** @param backend the process id of the backend that answers: a pooler gives its clients ids of its own */
  pooler (backend: number): Pooler {
    return this.announced() ?? (backend === this.#client.processID ? { kind: 'none' } : { kind: 'pgbouncer', mode: 'transaction', preparedStatements: false })
  }
}

export function poolerSetByHand (pooler: 'none' | 'session' | 'transaction', preparedStatements = pooler === 'session'): Pooler {
  return pooler === 'none' ? { kind: 'none' } : { kind: 'pgbouncer', mode: pooler, preparedStatements }
}

/** What PgBouncer says to a startup parameter that it does not know. */
const unsupported = /unsupported startup parameter: (\w+)/

/** @param parameters those that are sent by us; others would be refused again, however often one tries */
export function refusesStartup (error: unknown, parameters: readonly string[]): boolean {
  if (failureKind(error) !== 'connection-lost') return false
  const parameter = unsupported.exec((error as Error).message)?.[1]
  return parameter !== undefined && parameters.includes(parameter)
}
