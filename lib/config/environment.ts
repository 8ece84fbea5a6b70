import fastifyEnv from '@fastify/env'
import type { FastifyInstance } from 'fastify'
import { readConnectionUrl } from './connection-url.ts'
import { pgScopeError } from '../errors.ts'
import type { PgScopeOptions } from '../../types/options.ts'

/** Stores a variable's value in the options. */
type Place = (options: PgScopeOptions, value: never) => void
const pool = (name: keyof NonNullable<PgScopeOptions['pool']>): Place => (options, value) => {
  options.pool = { ...options.pool, [name]: options.pool?.[name] ?? value }
}
const option = (name: keyof PgScopeOptions): Place => (options, value) => { options[name] ??= value }

/**
 * The variables, their types and the options that they set. Those that begin with PG are defined by libpq
 * (https://www.postgresql.org/docs/current/libpq-envars.html).
 */
const variables: Record<string, { type: 'string' | 'integer', place: Place }> = {
  DATABASE_URL: { type: 'string', place: option('connectionString') },
  PGHOST: { type: 'string', place: option('host') },
  PGPORT: { type: 'integer', place: option('port') }, // or a list of them
  PGUSER: { type: 'string', place: option('user') },
  PGPASSWORD: { type: 'string', place: option('password') },
  PGDATABASE: { type: 'string', place: option('database') },
  PG_SCOPE_DIRECT_URL: { type: 'string', place: option('directUrl') },
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
  PG_SCOPE_SLOW_STATEMENT_THRESHOLD: { type: 'integer', place: option('slowStatementThreshold') },
  PG_SCOPE_SLOW_TRANSACTION_THRESHOLD: { type: 'integer', place: option('slowTransactionThreshold') },
  PG_SCOPE_CLOSE_TIMEOUT: { type: 'integer', place: option('closeTimeout') }
}

const ofLibpq = ['PGHOST', 'PGPORT', 'PGUSER', 'PGPASSWORD', 'PGDATABASE']
const connection = ['DATABASE_URL', 'PGHOST', 'PGPORT', 'PGUSER', 'PGDATABASE']

/**
 * Completes options that specify no connection from the environment. An option takes precedence over a variable.
 *
 * @throws FST_PG_SCOPE_OPTIONS for a variable of the wrong type, or if the environment specifies no connection either
 */
export async function withEnvironment (app: FastifyInstance, given: PgScopeOptions): Promise<PgScopeOptions> {
  const { connectionString, host, port, user, database } = given
  if ([connectionString, host, port, user, database].some((value) => value !== undefined)) return given
  const values = await readEnvironment(app)
  if (!connection.some((name) => values[name] !== undefined)) {
    throw pgScopeError('FST_PG_SCOPE_OPTIONS', 'No connection is given: ' +
      'pass `connectionString` (or `host`, `user`, `database`, …), or set DATABASE_URL ' +
      '(or PGHOST, PGUSER, PGDATABASE, …) in the environment.')
  }
  const options = { ...given }
  const url = values.DATABASE_URL as string | undefined
  for (const [name, { place }] of Object.entries(variables)) {
    if (values[name] !== undefined && !yieldsTo(url, name)) place(options, values[name] as never)
  }
  return options
}

/**
 * Whether the URL takes precedence over a variable. Such a variable must not become an option, which would override
 * the URL; pg reads the fields that the URL does not contain from libpq's variables.
 */
function yieldsTo (url: string | undefined, name: string): boolean {
  if (url === undefined) return false
  if (ofLibpq.includes(name)) return true
  return name === 'PG_SCOPE_APPLICATION_NAME' && readConnectionUrl(url).application_name !== undefined
}

async function readEnvironment (app: FastifyInstance): Promise<Record<string, unknown>> {
  // An empty variable counts as unset, as in libpq.
  const set = Object.entries(process.env).filter(([name, value]) => name in variables && value !== '')
  const data = Object.fromEntries(set)
  const properties = Object.fromEntries(Object.entries(variables).map(([name, { type }]) =>
    [name, { type: name === 'PGPORT' && data[name]?.includes(',') === true ? 'string' : type }]))
  const schema = { type: 'object', properties }
  let values: Record<string, unknown> = {}
  try {
    // In a context of its own, so that the decorator of @fastify/env does not conflict with the user's own use of
    // that plugin.
    await app.register(async (inner) => {
      // env: false, because process.env itself would add the empty variables again.
      await inner.register(fastifyEnv, { confKey: 'pgScopeEnv', schema, data, env: false })
      values = (inner as unknown as { pgScopeEnv: Record<string, unknown> }).pgScopeEnv
    })
  } catch (error) {
    const details = `An environment variable is invalid: ${(error as Error).message}.`
    throw pgScopeError('FST_PG_SCOPE_OPTIONS', details, error)
  }
  return values
}
