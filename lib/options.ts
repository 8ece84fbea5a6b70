import type { FastifyRequest } from 'fastify'
import type pg from 'pg'
import { pgScopeError } from './errors.ts'
import { checkOptions, either, isBoolean, isCount, isDuration, isFunction, isObject, isOneOf, isPort, isText, isWait, optionsError, type Rules } from './option-rules.ts'
import type { PoolLimits } from './pool/bounded-pool.ts'
import type { StrategyKind } from './pool/strategy.ts'
import { applicationName } from './postgres/application-name.ts'
import { withCheckedPassword } from './postgres/login.ts'
import { targetOf } from './postgres/target.ts'
import { type Beginning, beginning, readSettings, type Settings } from './session/settings.ts'
import type { PgScopeOptions, RouteOptions, ScopeOptions } from '../types/options.ts'

const transactionRules: Rules = {
  mode: isOneOf('transaction', 'autocommit'),
  isolation: isOneOf('read committed', 'repeatable read', 'serializable'),
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
  password: either((value) => typeof value === 'string' ? null : 'a string', isFunction),
  database: isText,
  ssl: either(isBoolean, isObject),
  keepAlive: isBoolean,
  keepAliveInitialDelayMillis: isDuration,
  types: isObject
}

const pluginRules: Rules = {
  connectionString: isText,
  ...connectionRules,
  decorator: (value) => typeof value === 'string' && /^[a-z_$][\w$]*$/i.test(value) ? null : 'a name such as \'db\'',
  applicationName: isText,
  pool: isObject,
  ...routeRules,
  pooler: isOneOf('auto', 'none', 'session', 'transaction'),
  preparedStatements: either(isBoolean, isCount(0)),
  leakDetectionThreshold: isDuration,
  closeTimeout: isDuration,
  onNotice: isFunction,
  startupCheck: isBoolean,
  exposeErrors: isBoolean
}

const poolRules: Rules = {
  strategy: isOneOf('queue', 'null'),
  max: isCount(1),
  min: isCount(0),
  acquireTimeout: isWait,
  maxWaiting: isCount(0),
  idleTimeout: isDuration,
  maxLifetime: isDuration,
  prePing: isBoolean
}

/** How the sessions of an app, a route or a scope work: worked out once. */
export interface Unit {
  readonly mode: 'transaction' | 'autocommit'
  readonly beginning: Beginning
  /** How a statement by itself is sent, in mode 'autocommit'. */
  readonly single: Beginning
  /** Settings that depend on the request. */
  readonly dynamic: ((request: FastifyRequest) => Settings) | null
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
export function checkPluginOptions (options: PgScopeOptions): void {
  checkOptions(options, pluginRules, '')
  if (options.pool !== undefined) {
    checkOptions(options.pool, poolRules, 'pool.')
    const { min = 0, max = 10 } = options.pool
    if (min > max) throw optionsError('pool.min', `at most pool.max (${max})`, min)
  }
  if (options.connectionString !== undefined) checkConnectionString(options.connectionString)
  unitOf(pick(options, routeRules))
}

export function resolveOptions (options: PgScopeOptions): ResolvedOptions {
  const { min = 0, max = 10, acquireTimeout = 5000, maxWaiting = Infinity, idleTimeout = 30000, maxLifetime = 1800000, prePing = false } = options.pool ?? {}
  return Object.freeze({
    decorator: options.decorator ?? 'db',
    client: withCheckedPassword({
      keepAlive: true,
      // The system's two hours are longer than any request, and than what firewalls remember.
      keepAliveInitialDelayMillis: 10000,
      ...pick(options, { connectionString: isText, ...connectionRules }) as pg.ClientConfig,
      // PgBouncer shows the previous client's name for one that sends none.
      application_name: options.applicationName ?? applicationName()
    }),
    pool: Object.freeze({ min, max, acquireTimeout, maxWaiting, idleTimeout, maxLifetime, prePing, leakDetectionThreshold: options.leakDetectionThreshold ?? 0 }),
    strategy: options.pool?.strategy ?? 'queue',
    defaults: Object.freeze({ idleInTransactionTimeout: 60000, ...pick(options, routeRules) }),
    pooler: options.pooler ?? 'auto',
    preparedStatements: options.preparedStatements,
    closeTimeout: options.closeTimeout ?? 10000,
    onNotice: options.onNotice,
    startupCheck: options.startupCheck ?? true,
    exposeErrors: options.exposeErrors ?? false
  })
}

/** @throws FST_PG_SCOPE_OPTIONS */
export function routeUnit (defaults: RouteOptions, route: unknown, path: string): Unit {
  checkOptions(route, routeRules, path)
  return unitOf({ ...defaults, ...defined(route as RouteOptions) }, defaults, route as RouteOptions, path)
}

/** @throws FST_PG_SCOPE_OPTIONS */
export function scopeUnit (defaults: RouteOptions, scope: ScopeOptions): Unit {
  checkOptions(scope, scopeRules, '')
  // Functions of a request have nothing to say where there is none; commitIf and its kin belong to an answer.
  const { settings, role, commitOn, commitIf, onAbort, ...rest } = defaults
  const base: RouteOptions = { ...rest, ...(typeof settings === 'object' && { settings }), ...(typeof role === 'string' && { role }) }
  const { signal, ...own } = scope
  return unitOf({ ...base, ...defined(own) }, base, own)
}

function unitOf (options: RouteOptions, defaults: RouteOptions = {}, own: RouteOptions = options, path = ''): Unit {
  const { mode = 'transaction', commitOn = 'send', onAbort = 'rollback', streamTimeout = 600000, commitIf, role } = options
  const nonsense = (what: string): Error => pgScopeError('FST_PG_SCOPE_OPTIONS', `${path}${what}`)
  if (options.deferrable === true && !(options.isolation === 'serializable' && options.readOnly === true)) {
    throw nonsense('deferrable: has a meaning only together with isolation: \'serializable\' and readOnly: true.')
  }
  if (mode === 'autocommit') {
    for (const name of ['commitOn', 'commitIf', 'onAbort'] as const) {
      if (own[name] !== undefined) throw nonsense(`${name}: has no meaning in mode 'autocommit', where each statement is committed by itself.`)
    }
  }
  const sources = [defaults.settings, own === defaults ? undefined : own.settings]
  const fixed = Object.assign({}, ...sources.map((source) => typeof source === 'function' ? {} : readSettings(source, undefined)), typeof role === 'function' ? {} : readSettings(undefined, role))
  const functions = sources.filter((source) => typeof source === 'function')
  const { idleInTransactionTimeout, ...singleOptions } = options
  return Object.freeze({
    mode,
    beginning: beginning(options, fixed),
    single: beginning(singleOptions, options.readOnly === true ? { ...fixed, transaction_read_only: 'on' } : fixed),
    dynamic: functions.length === 0 && typeof role !== 'function'
      ? null
      : (request: FastifyRequest) => Object.assign({}, ...functions.map((settings) => readSettings(settings(request), undefined)), typeof role === 'function' ? readSettings(undefined, role(request)) : {}),
    commitOn,
    commitIf,
    onAbort,
    streamTimeout
  })
}

/** What pg takes from a URL, and what stands in its place here. */
const notInUrl: Record<string, string> = {
  statement_timeout: 'Use the option statementTimeout.',
  lock_timeout: 'Use the option lockTimeout.',
  idle_in_transaction_session_timeout: 'Use the option idleInTransactionTimeout.',
  query_timeout: 'Use the options statementTimeout and answerTimeout.'
}

function checkConnectionString (text: string): void {
  if (text.startsWith('/') || text.startsWith('socket:')) return // a socket's folder, as pg takes it
  const url = URL.canParse(text) ? new URL(text) : null
  const malformed = pgScopeError('FST_PG_SCOPE_OPTIONS', 'connectionString: expected a URL such as postgres://user:password@host:5432/database, and something else came. Characters such as # / ? @ % in a password must be percent-encoded.')
  if (url === null || !['postgres:', 'postgresql:'].includes(url.protocol)) throw malformed
  for (const [name, instead] of Object.entries(notInUrl)) {
    if (url.searchParams.has(name)) throw pgScopeError('FST_PG_SCOPE_OPTIONS', `connectionString: holds ${name}, which pg would set behind the session's back. ${instead}`)
  }
  try {
    targetOf({ connectionString: text })
  } catch (error) { // what only pg's own parser refuses: a bad percent-encoding, a certificate's file that is not there
    throw error instanceof URIError ? malformed : pgScopeError('FST_PG_SCOPE_OPTIONS', `connectionString: ${(error as Error).message}.`, error)
  }
}

function pick (options: object, rules: Rules): Record<string, unknown> {
  return Object.fromEntries(Object.entries(options).filter(([name, value]) => Object.hasOwn(rules, name) && value !== undefined))
}

function defined<T extends object> (options: T): T {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as T
}
