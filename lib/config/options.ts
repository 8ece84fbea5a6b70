import type pg from 'pg'
import { connectionConfig } from './connection-config.ts'
import { readConnectionUrl } from './connection-url.ts'
import { pgScopeError } from '../errors.ts'
import {
  checkOptions, either, isBoolean, isCount, isDuration, isFunction, isInstance, isObject, isOneOf, isPort, isText, isWait, optionsError,
  quoted, type Rule, type Rules
} from './option-rules.ts'
import { ownFields } from '../own-fields.ts'
import type { PoolLimits } from '../pool/pool-limits.ts'
import type { StrategyKind } from '../pool/sources/connection-source.ts'
import { TransactionConfig, mergeSettings, type Settings } from '../exchange/transaction-config.ts'
import { askEach, type GivenSettings, readFixed, type RequestSettings } from '../session/request-settings.ts'
import type { PgScopeOptions, RouteOptions, ScopeOptions } from '../../types/options.ts'

const transactionRules: Rules = {
  mode: isOneOf('transaction', 'autocommit'),
  isolation: isOneOf('read uncommitted', 'read committed', 'repeatable read', 'serializable'),
  readOnly: isBoolean,
  deferrable: isBoolean,
  statementTimeout: isDuration,
  lockTimeout: isDuration,
  idleInTransactionTimeout: isDuration,
  transactionTimeout: isDuration,
  answerTimeout: isDuration
}

const scopeRules: Rules = {
  ...transactionRules,
  settings: isObject,
  role: isText,
  signal: (value) => value instanceof AbortSignal ? null : 'an AbortSignal'
}

const routeRules: Rules = {
  ...transactionRules,
  settings: either(isObject, isFunction),
  role: either(isText, isFunction),
  commitOn: isOneOf('send', 'response'),
  commitIf: isFunction,
  streamTimeout: isDuration,
  onAbort: isOneOf('rollback', 'commit')
}

const connectionRules: Rules = {
  host: isText,
  port: isPort,
  user: isText,
  password: either((value) => value === '' ? null : isText(value), isFunction),
  database: isText,
  ssl: either(isBoolean, isObject),
  keepAlive: isBoolean,
  keepAliveInitialDelayMillis: isDuration,
  types: isInstance
}

/** What Fastify itself reads of the options of register(), and @fastify/autoload passes to every plugin: it says nothing about this one. */
const ofRegister: Rule = () => null
const rulesOfRegister: Rules = { prefix: ofRegister, logLevel: ofRegister, logSerializers: ofRegister }

const pluginRules: Rules = {
  connectionString: isText,
  ...connectionRules,
  decorator: (value) => typeof value === 'string' && /^[a-z_$][\w$]*$/i.test(value) ? null : 'a name such as \'db\'',
  applicationName: isText,
  pool: isObject,
  ...routeRules,
  pooler: isOneOf('auto', 'none', 'session', 'transaction'),
  preparedStatements: either(isBoolean, isCount(0)),
  sessionState: isOneOf('reset', 'keep'),
  leakDetectionThreshold: isDuration,
  closeTimeout: isDuration,
  onNotice: isFunction,
  startupCheck: isBoolean,
  exposeErrors: isBoolean,
  ...rulesOfRegister
}

const poolRules: Rules = {
  strategy: isOneOf('queue', 'null'),
  max: isCount(1),
  min: isCount(0),
  acquireTimeout: isWait,
  maxWaiting: isCount(0),
  idleTimeout: isDuration,
  maxLifetime: isDuration,
  maxUses: isCount(1),
  prePing: isBoolean
}

/** How the sessions of an app, a route or a scope work: worked out once. */
export interface SessionConfig {
  readonly mode: 'transaction' | 'autocommit'
  readonly transaction: TransactionConfig
  /** How a statement by itself is sent, in mode 'autocommit'. */
  readonly singleStatement: TransactionConfig
  /** Settings that depend on the request. */
  readonly requestSettings: RequestSettings | null
  readonly commitOn: 'send' | 'response'
  readonly commitIf: RouteOptions['commitIf']
  readonly onAbort: 'rollback' | 'commit'
  /** Milliseconds, 0 for no limit. */
  readonly streamTimeout: number
}

/** A plugin's options, checked and completed. */
export interface ResolvedOptions {
  readonly decorator: string
  readonly client: pg.ClientConfig
  readonly pool: Readonly<PoolLimits>
  readonly strategy: StrategyKind
  /** What routes and scopes start from. */
  readonly defaults: RouteOptions
  readonly pooler: NonNullable<PgScopeOptions['pooler']>
  readonly preparedStatements: boolean | number | undefined
  readonly sessionState: 'reset' | 'keep'
  readonly closeTimeout: number
  readonly onNotice: PgScopeOptions['onNotice']
  readonly startupCheck: boolean
  readonly exposeErrors: boolean
}

/**
 * Checks what a user handed to register().
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
  if (options.connectionString !== undefined) readConnectionUrl(options.connectionString)
  sessionConfigOf([pick(options, routeRules)], '')
}

export function resolveOptions (given: PgScopeOptions): ResolvedOptions {
  const options = ownFields(given)
  const pool = ownFields(options.pool ?? {})
  const { min = 0, max = 10, acquireTimeout = 5000, maxWaiting = Infinity, idleTimeout = 30000 } = pool
  const { maxLifetime = 1800000, maxUses = Infinity, prePing = false } = pool
  const leakDetectionThreshold = options.leakDetectionThreshold ?? 0
  return Object.freeze({
    decorator: options.decorator ?? 'db',
    client: connectionConfig(options.connectionString, options.applicationName, pick(options, connectionRules)),
    pool: Object.freeze({
      min, max, acquireTimeout, maxWaiting, idleTimeout, maxLifetime, maxUses, prePing, leakDetectionThreshold
    }),
    strategy: pool.strategy ?? 'queue',
    defaults: Object.freeze(ownFields({ idleInTransactionTimeout: 60000, ...pick(options, routeRules) })),
    pooler: options.pooler ?? 'auto',
    preparedStatements: options.preparedStatements,
    sessionState: options.sessionState ?? 'reset',
    closeTimeout: options.closeTimeout ?? 10000,
    onNotice: options.onNotice,
    startupCheck: options.startupCheck ?? true,
    exposeErrors: options.exposeErrors ?? false
  })
}

/** @throws FST_PG_SCOPE_OPTIONS */
export function routeConfig (defaults: RouteOptions, route: unknown, path: string): SessionConfig {
  checkOptions(route, routeRules, path)
  return sessionConfigOf([defaults, route as RouteOptions], path)
}

/** @throws FST_PG_SCOPE_OPTIONS */
export function scopeConfig (defaults: RouteOptions, scope: ScopeOptions): SessionConfig {
  checkOptions(scope, scopeRules, '')
  // Functions of a request have nothing to say where there is none; commitIf and its kin belong to an answer.
  const { settings, role, commitOn, commitIf, onAbort, ...rest } = ownFields(defaults)
  const base: RouteOptions = { ...rest, ...(typeof settings !== 'function' && { settings }), ...(typeof role === 'string' && { role }) }
  const { signal, ...own } = ownFields(scope)
  return sessionConfigOf([base, own], '')
}

/** @param layers the app's options, and those of a route or scope, which win */
function sessionConfigOf (layers: readonly RouteOptions[], path: string): SessionConfig {
  const given = layers.map((layer) => ownFields(defined(layer)))
  const options: RouteOptions = Object.assign(Object.create(null), ...given)
  const nearest = given.at(-1)!
  const { mode = 'transaction', commitOn = 'send', onAbort = 'rollback', streamTimeout = 600000, commitIf, role } = options
  const nonsense = (name: string, what: string): Error => pgScopeError('FST_PG_SCOPE_OPTIONS', `${quoted(path + name)} ${what}.`)
  if (options.deferrable === true && !(options.isolation === 'serializable' && options.readOnly === true)) {
    throw nonsense('deferrable', 'has a meaning only together with `isolation: \'serializable\'` and `readOnly: true`')
  }
  if (mode === 'autocommit') {
    for (const name of ['commitOn', 'commitIf', 'onAbort'] as const) {
      if (nearest[name] !== undefined) throw nonsense(name, 'has no meaning in mode \'autocommit\', where each statement is committed by itself')
    }
  }
  const { fixed, requestSettings } = settingsOf(given, role)
  const { idleInTransactionTimeout, ...singleOptions } = options
  return Object.freeze({
    mode,
    transaction: new TransactionConfig(options, fixed),
    singleStatement: new TransactionConfig(singleOptions, options.readOnly === true ? mergeSettings(fixed, { transaction_read_only: 'on' }) : fixed),
    requestSettings,
    commitOn,
    // Nothing is left to be decided where each statement is committed by itself.
    commitIf: mode === 'autocommit' ? undefined : commitIf,
    onAbort,
    streamTimeout
  })
}

/** Settings of all layers come together, the nearest wins; of several roles there is only the nearest. */
function settingsOf (layers: readonly RouteOptions[], role: RouteOptions['role']): { fixed: Settings, requestSettings: RequestSettings | null } {
  const given: GivenSettings[] = layers.filter(({ settings }) => settings !== undefined).map(({ settings }) => ({ given: settings, kind: 'settings' }))
  if (role !== undefined) given.push({ given: role, kind: 'role' })
  const fixed = given.map(readFixed)
  const first = fixed.indexOf(null)
  return {
    fixed: mergeSettings(...fixed.slice(0, first === -1 ? undefined : first) as Settings[]),
    // What stands behind a function wins over what it returns.
    requestSettings: first === -1 ? null : askEach(given.slice(first))
  }
}

function pick (options: object, rules: Rules): Record<string, unknown> {
  return Object.fromEntries(Object.entries(options).filter(([name, value]) => Object.hasOwn(rules, name) && value !== undefined))
}

function defined<T extends object> (options: T): T {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as T
}
