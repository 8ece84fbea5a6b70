import type pg from 'pg'
import { connectionConfig } from './connection-config.ts'
import { readConnectionUrl } from './connection-url.ts'
import { connectionRules, pluginRules, poolRules, routeRules, wireRules } from './option-lists.ts'
import { checkOptions, optionsError, type Rules } from './option-rules.ts'
import { checkReplicas, type ReplicaPolicy, replicaPolicyOf } from './replica-policy.ts'
import { sessionConfigOf } from './session-config.ts'
import { type TracePolicy, tracePolicyOf } from './trace-policy.ts'
import { ownFields } from '../own-fields.ts'
import type { PoolLimits } from '../pool/pool-limits.ts'
import type { StrategyKind } from '../pool/sources/connection-source.ts'
import type { PgScopeOptions, RouteOptions } from '../../types/options.ts'

/** The plugin's options, checked and with defaults. */
export interface ResolvedOptions {
  readonly decorator: string
  readonly client: pg.ClientConfig
  /** Null without `replicas`. */
  readonly replicas: ReplicaPolicy | null
  /** How connections outside of the pool are opened; null if that is as for the pool. */
  readonly direct: pg.ClientConfig | null
  readonly pool: Readonly<PoolLimits>
  readonly strategy: StrategyKind
  /** The defaults of routes and scopes. */
  readonly defaults: RouteOptions
  readonly pooler: NonNullable<PgScopeOptions['pooler']>
  readonly preparedStatements: boolean | number | undefined
  readonly sessionState: 'reset' | 'keep'
  readonly resolveCommits: boolean
  readonly traceContext: TracePolicy | null
  readonly slowStatementThreshold: number
  readonly slowTransactionThreshold: number
  readonly closeTimeout: number
  readonly onNotice: PgScopeOptions['onNotice']
  readonly startupCheck: boolean
  readonly exposeErrors: boolean
}

/**
 * Checks the options that were passed to register().
 *
 * @throws FST_PG_SCOPE_OPTIONS
 */
export function checkPluginOptions (given: PgScopeOptions): void {
  checkOptions(given, pluginRules, '')
  const options = ownFields(given)
  if (options.pool !== undefined) {
    checkOptions(options.pool, poolRules, 'pool.')
    const { min = 0, max = 10 } = ownFields(options.pool)
    if (min > max) throw optionsError('pool.min', `≤ \`pool.max\` (${max})`, min)
  }
  tracePolicyOf(options.traceContext)
  if (options.connectionString !== undefined) readConnectionUrl(options.connectionString)
  checkReplicas(options)
  if (options.directUrl !== undefined) readConnectionUrl(options.directUrl, 'directUrl')
  sessionConfigOf([pick(options, routeRules)], '')
}

/**
 * Applies the defaults.
 *
 * @param given checked options
 */
export function resolveOptions (given: PgScopeOptions): ResolvedOptions {
  const options = ownFields(given)
  const pool = ownFields(options.pool ?? {})
  const { min = 0, max = 10, acquireTimeout = 5000, maxWaiting = Infinity, idleTimeout = 30000 } = pool
  const { maxLifetime = 1800000, maxUses = Infinity, prePing = false } = pool
  const leakDetectionThreshold = options.leakDetectionThreshold ?? 0
  const { connectionString, directUrl, applicationName } = options
  const client = connectionConfig(connectionString, applicationName, pick(options, connectionRules))
  return Object.freeze({
    decorator: options.decorator ?? 'db',
    client,
    replicas: replicaPolicyOf(options, client),
    direct: directUrl === undefined ? null : connectionConfig(directUrl, applicationName, pick(options, wireRules)),
    pool: Object.freeze({
      min, max, acquireTimeout, maxWaiting, idleTimeout, maxLifetime, maxUses, prePing, leakDetectionThreshold
    }),
    strategy: pool.strategy ?? 'queue',
    defaults: Object.freeze(ownFields({ idleInTransactionTimeout: 60000, ...pick(options, routeRules) })),
    pooler: options.pooler ?? 'auto',
    preparedStatements: options.preparedStatements,
    sessionState: options.sessionState ?? 'reset',
    resolveCommits: options.resolveCommits ?? false,
    traceContext: tracePolicyOf(options.traceContext),
    slowStatementThreshold: options.slowStatementThreshold ?? 0,
    slowTransactionThreshold: options.slowTransactionThreshold ?? 0,
    closeTimeout: options.closeTimeout ?? 10000,
    onNotice: options.onNotice,
    startupCheck: options.startupCheck ?? true,
    exposeErrors: options.exposeErrors ?? false
  })
}

/** The options that the rules name, without undefined ones. */
function pick (options: object, rules: Rules): Record<string, unknown> {
  const entries = Object.entries(options).filter(([name, value]) => Object.hasOwn(rules, name) && value !== undefined)
  return Object.fromEntries(entries)
}
