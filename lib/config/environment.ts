import fastifyEnv from '@fastify/env'
import type { FastifyInstance } from 'fastify'
import { readConnectionUrl } from './connection-url.ts'
import { pgScopeError } from '../errors.ts'
import type { PgScopeOptions } from '../../types/options.ts'

type Place = (options: PgScopeOptions, value: never) => void
const pool = (name: keyof NonNullable<PgScopeOptions['pool']>): Place => (options, value) => {
  options.pool = { ...options.pool, [name]: options.pool?.[name] ?? value }
}
const option = (name: keyof PgScopeOptions): Place => (options, value) => { options[name] ??= value }

/** Each variable that is read, its type, and the option that it stands for. The PG… ones are libpq's (https://www.postgresql.org/docs/current/libpq-envars.html). */
const variables: Record<string, { type: 'string' | 'integer', place: Place }> = {
  DATABASE_URL: { type: 'string', place: option('connectionString') },
  PGHOST: { type: 'string', place: option('host') },
  PGPORT: { type: 'integer', place: option('port') },
  PGUSER: { type: 'string', place: option('user') },
  PGPASSWORD: { type: 'string', place: option('password') },
  PGDATABASE: { type: 'string', place: option('database') },
  PG_SCOPE_APPLICATION_NAME: { type: 'string', place: option('applicationName') },
  PG_SCOPE_POOL_MAX: { type: 'integer', place: pool('max') },
  PG_SCOPE_POOL_MIN: { type: 'integer', place: pool('min') },
  PG_SCOPE_ACQUIRE_TIMEOUT: { type: 'integer', place: pool('acquireTimeout') },
  PG_SCOPE_MAX_WAITING: { type: 'integer', place: pool('maxWaiting') },
  PG_SCOPE_IDLE_TIMEOUT: { type: 'integer', place: pool('idleTimeout') },
  PG_SCOPE_MAX_LIFETIME: { type: 'integer', place: pool('maxLifetime') },
  PG_SCOPE_MAX_USES: { type: 'integer', place: pool('maxUses') },
  PG_SCOPE_STATEMENT_TIMEOUT: { type: 'integer', place: option('statementTimeout') },
  PG_SCOPE_LOCK_TIMEOUT: { type: 'integer', place: option('lockTimeout') },
  PG_SCOPE_IDLE_IN_TRANSACTION_TIMEOUT: { type: 'integer', place: option('idleInTransactionTimeout') },
  PG_SCOPE_ANSWER_TIMEOUT: { type: 'integer', place: option('answerTimeout') },
  PG_SCOPE_TRANSACTION_TIMEOUT: { type: 'integer', place: option('transactionTimeout') },
  PG_SCOPE_LEAK_DETECTION_THRESHOLD: { type: 'integer', place: option('leakDetectionThreshold') },
  PG_SCOPE_CLOSE_TIMEOUT: { type: 'integer', place: option('closeTimeout') }
}

const ofLibpq = ['PGHOST', 'PGPORT', 'PGUSER', 'PGPASSWORD', 'PGDATABASE']
const connection = ['DATABASE_URL', 'PGHOST', 'PGPORT', 'PGUSER', 'PGDATABASE']

/**
 * Completes options from the environment, where they name no connection. What stands in the options wins.
 *
 * @throws FST_PG_SCOPE_OPTIONS for a variable of the wrong type, and where the environment names no connection either
 */
export async function withEnvironment (app: FastifyInstance, given: PgScopeOptions): Promise<PgScopeOptions> {
  if ([given.connectionString, given.host, given.port, given.user, given.database].some((value) => value !== undefined)) return given
  const values = await readEnvironment(app)
  if (!connection.some((name) => values[name] !== undefined)) {
    throw pgScopeError('FST_PG_SCOPE_OPTIONS', 'No connection is given: pass connectionString (or host, user, database, …), or set DATABASE_URL (or PGHOST, PGUSER, PGDATABASE, …) in the environment.')
  }
  const options = { ...given }
  const url = values.DATABASE_URL as string | undefined
  for (const [name, { place }] of Object.entries(variables)) {
    if (values[name] !== undefined && !yieldsTo(url, name)) place(options, values[name] as never)
  }
  return options
}

/** The URL wins over other variables, and an option would win over the URL. What the URL leaves open pg takes from libpq's variables. */
function yieldsTo (url: string | undefined, name: string): boolean {
  if (url === undefined) return false
  return ofLibpq.includes(name) || (name === 'PG_SCOPE_APPLICATION_NAME' && readConnectionUrl(url).application_name !== undefined)
}

async function readEnvironment (app: FastifyInstance): Promise<Record<string, unknown>> {
  // An empty variable counts as none, as libpq has it.
  const data = Object.fromEntries(Object.entries(process.env).filter(([name, value]) => name in variables && value !== ''))
  const properties = Object.fromEntries(Object.entries(variables).map(([name, { type }]) => [name, { type }]))
  let values: Record<string, unknown> = {}
  try {
    // In a context of its own: what @fastify/env decorates must not stand in the way of the user's own use of it.
    await app.register(async (inner) => {
      // env: false, for process.env itself would bring the empty ones back.
      await inner.register(fastifyEnv, { confKey: 'pgScopeEnv', schema: { type: 'object', properties }, data, env: false })
      values = (inner as unknown as { pgScopeEnv: Record<string, unknown> }).pgScopeEnv
    })
  } catch (error) {
    throw pgScopeError('FST_PG_SCOPE_OPTIONS', `The environment is not as expected: ${(error as Error).message}.`, error)
  }
  return values
}
