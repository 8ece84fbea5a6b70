import type pg from 'pg'
import type { ResolvedOptions } from '../../config/options.ts'
import { ServerParameters } from '../../pgbouncer/detect.ts'
import { ownFields } from '../../own-fields.ts'
import { hostsOf } from '../../postgres/hosts.ts'
import { startupOf } from '../../postgres/target.ts'
import { dismiss, patientClient } from './ask.ts'
import type { AppFacts, Facts, PgBouncerFacts, PoolerFacts, Unread } from './facts.ts'
import { applicationNameOf, failureOf, poolerOf, tlsOf } from './gather-connection.ts'
import { gatherActivity, gatherServer } from './gather-server.ts'
import { gatherPgBouncer, leadsElsewhere } from './gather-pgbouncer.ts'
import { probe } from './probes.ts'

export interface GatherInput {
  readonly options: ResolvedOptions
  readonly source: string
  readonly bootFailure: string | null
  /** The login for PgBouncer's admin console; null: that of the app is tried. */
  readonly admin: pg.ClientConfig | null
}

type Found = Omit<Facts, 'now' | 'decorator' | 'source' | 'bootFailure' | 'target' | 'app'>

const notTried = { pipelining: 'not tried', cancel: 'not tried' } as const

/** Connects as the app does and asks, without changing anything. Judges nothing. Never rejects for what it finds. */
export async function gather ({ options, source, bootFailure, admin }: GatherInput): Promise<Facts> {
  const { host, port, database, user } = startupOf(options.client)
  const target = { host, port, database, user }
  const found = await ask(options, target, admin)
  return { now: Date.now(), decorator: options.decorator, source, bootFailure, target, app: appOf(options), ...found }
}

/** The facts of each host, if there are several: any of them may serve the app. */
export async function gatherEach (input: GatherInput): Promise<Facts[]> {
  const { client } = input.options
  const all = hostsOf(client)?.all ?? []
  if (all.length < 2) return [await gather(input)]
  const found: Facts[] = []
  for (const { host, port } of all) {
    found.push(await gather({ ...input, options: { ...input.options, client: ownFields(client, { host, port }) } }))
  }
  return found
}

async function ask (options: ResolvedOptions, target: Facts['target'], admin: pg.ClientConfig | null): Promise<Found> {
  const unread: Unread[] = []
  const client = patientClient(options.client)
  const parameters = new ServerParameters(client)
  try {
    await client.connect()
    const told = await poolerOf(client, parameters, options.client, target)
    const applicationName = await applicationNameOf(client, options.client.application_name ?? '')
    const tls = tlsOf(client)
    const server = await gatherServer(client, unread)
    const activity = await gatherActivity(client, unread)
    const pgbouncer = await gatherConsole(told, options, target, admin, unread)
    return {
      connection: { failure: null, applicationName },
      tls,
      server,
      activity,
      pgbouncer,
      pooler: withConsole(told, pgbouncer),
      probes: await probe(options.client),
      unread
    }
  } catch (error) {
    // The console lets its users in also when PgBouncer is full, or its server down.
    const unreached = { kind: 'unreached' } as const
    const pgbouncer = admin === null ? null : await gatherConsole(unreached, options, target, admin, unread)
    return {
      connection: { failure: failureOf(error, target), applicationName: null },
      tls: tlsOf(client),
      server: null,
      activity: null,
      pgbouncer,
      pooler: withConsole(unreached, pgbouncer),
      probes: notTried,
      unread
    }
  } finally {
    await dismiss(client)
  }
}

async function gatherConsole (
  pooler: PoolerFacts, { client }: ResolvedOptions, target: Facts['target'], admin: pg.ClientConfig | null,
  unread: Unread[]
): Promise<PgBouncerFacts | null> {
  if (admin === null) {
    return pooler.kind === 'none' || pooler.kind === 'other' ? null : gatherPgBouncer(client, target, false, unread)
  }
  if (pooler.kind === 'none' || leadsElsewhere(admin, target)) {
    unread.push({
      what: 'the configuration of the pooler',
      why: pooler.kind === 'none' ? 'the connection of the app is direct' : '--admin leads to another host or port',
      how: 'give the URL of the app the host and port of PgBouncer, and --admin the same'
    })
    return null
  }
  return gatherPgBouncer(admin, target, true, unread)
}

/** The console knows more than the connection. */
function withConsole (told: PoolerFacts, pgbouncer: PgBouncerFacts | null): PoolerFacts {
  if (pgbouncer === null) return told
  return {
    kind: 'pgbouncer',
    version: pgbouncer.version,
    mode: pgbouncer.mode,
    maxPreparedStatements: Number(pgbouncer.config.max_prepared_statements ?? 0),
    announced: told.kind === 'pgbouncer' && told.announced
  }
}

function appOf ({ pool, strategy, defaults, pooler, preparedStatements, client }: ResolvedOptions): AppFacts {
  return {
    max: pool.max,
    min: pool.min,
    acquireTimeout: pool.acquireTimeout,
    idleTimeout: pool.idleTimeout,
    maxLifetime: pool.maxLifetime,
    strategy,
    pooler,
    preparedStatements: preparedStatements ?? null,
    statementTimeout: defaults.statementTimeout ?? null,
    lockTimeout: defaults.lockTimeout ?? null,
    idleInTransactionTimeout: defaults.idleInTransactionTimeout ?? null,
    transactionTimeout: defaults.transactionTimeout ?? null,
    answerTimeout: defaults.answerTimeout ?? null,
    keepAlive: client.keepAlive !== false
  }
}
