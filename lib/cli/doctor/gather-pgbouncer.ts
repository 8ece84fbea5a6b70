import pg from 'pg'
import { ownFields } from '../../own-fields.ts'
import { startupOf, type Target } from '../../postgres/target.ts'
import { dismiss, messageOf, patientClient } from './ask.ts'
import type { PgBouncerFacts, Unread } from './facts.ts'

type Row = Record<string, string | number | null>

/**
 * Reads the admin console: the database `pgbouncer`, which answers users in admin_users and stats_users.
 *
 * @param config of the app's connections, or of `--admin`
 * @returns null if the console does not answer as PgBouncer's does; `unread` then says why
 */
export async function gatherPgBouncer (
  config: pg.ClientConfig, target: Target, given: boolean, unread: Unread[]
): Promise<PgBouncerFacts | null> {
  const client = patientClient(given ? config : ownFields(config, { database: 'pgbouncer' } as pg.ClientConfig))
  try {
    await client.connect()
    // It knows the simple protocol alone, which a text without values uses.
    const show = async (what: string): Promise<Row[]> => (await client.query<Row>(`SHOW ${what}`)).rows
    const version = /PgBouncer (\d+(?:\.\d+)*)/.exec(Object.values((await show('VERSION'))[0] ?? {}).join(' '))?.[1]
    if (version === undefined) throw new Error('it is not the admin console of PgBouncer')
    return read(version, target, {
      config: await show('CONFIG'),
      databases: await show('DATABASES'),
      pools: await show('POOLS'),
      users: await show('USERS')
    })
  } catch (error) {
    unread.push({
      what: 'the configuration of the pooler',
      why: given
        ? `--admin: ${messageOf(error)}`
        : `the login of the app cannot use the admin console (${messageOf(error)})`,
      how: '--admin postgres://user:password@host:6432/pgbouncer, as a user in admin_users or stats_users'
    })
    return null
  } finally {
    await dismiss(client)
  }
}

interface Shown { config: Row[], databases: Row[], pools: Row[], users: Row[] }

/** The columns differ by version: what is missing counts as not set. */
function read (version: string, target: Target, shown: Shown): PgBouncerFacts {
  const config = Object.fromEntries(shown.config.map(({ key, value }) => [String(key), String(value ?? '')]))
  const database = shown.databases.find(({ name }) => name === target.database)
  const login = typeof database?.force_user === 'string' ? database.force_user : target.user
  const user = shown.users.find(({ name }) => name === login)
  const fallback = positive(config.default_pool_size) ?? 20
  const sizeOf = (name: unknown): number =>
    positive(shown.databases.find((each) => each.name === name)?.pool_size) ?? fallback
  const pools = shown.pools.filter((pool) => pool.database !== 'pgbouncer')
  const own = pools.filter((pool) => pool.database === target.database && pool.user === login)
  const limits = [
    database?.max_connections ?? config.max_db_connections, user?.max_user_connections ?? config.max_user_connections
  ].map(positive).filter((limit) => limit !== null)
  const clientLimits: Record<string, number> = {}
  const perDatabase = positive(database?.max_client_connections ?? config.max_db_client_connections)
  const perUser = positive(user?.max_user_client_connections ?? config.max_user_client_connections)
  if (perDatabase !== null) clientLimits.max_db_client_connections = perDatabase
  if (perUser !== null) clientLimits.max_user_client_connections = perUser
  return {
    version,
    config,
    mode: String(user?.pool_mode || database?.pool_mode || config.pool_mode || 'session'),
    poolSize: positive(user?.pool_size) ?? positive(database?.pool_size) ?? fallback,
    reserveSize: positive(database?.reserve_pool ?? database?.reserve_pool_size ?? config.reserve_pool_size) ?? 0,
    connectionLimit: limits.length === 0 ? null : Math.min(...limits),
    clientLimits,
    serverHost: typeof database?.host === 'string' && database.host !== '' ? database.host : null,
    allPools: { count: pools.length, size: pools.reduce((sum, pool) => sum + sizeOf(pool.database), 0) },
    waiting: {
      clients: own.reduce((sum, { cl_waiting: clients }) => sum + Number(clients ?? 0), 0),
      longest: Math.max(0, ...own.map(({ maxwait }) => Number(maxwait ?? 0)))
    }
  }
}

/** null for 0, which means no limit there, and for what is not set. */
function positive (value: unknown): number | null {
  const number = Number(value)
  return value !== null && value !== '' && Number.isFinite(number) && number > 0 ? number : null
}

/** Whether `--admin` leads to another pooler than the app's URL. */
export function leadsElsewhere (config: pg.ClientConfig, target: Target): boolean {
  const { host, port } = startupOf(config)
  const same = (name: string): string => name === '127.0.0.1' || name === '::1' ? 'localhost' : name
  return port !== target.port || same(host) !== same(target.host)
}
