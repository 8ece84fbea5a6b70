import { pgScopeError } from '../errors.ts'
import { TransactionConfig, mergeSettings, type Settings } from '../exchange/transaction-config.ts'
import { ownFields } from '../own-fields.ts'
import { askEach, type GivenSettings, readFixed, type RequestSettings } from '../session/request-settings.ts'
import type { RouteOptions, ScopeOptions } from '../../types/options.ts'
import { checkOptions, quoted } from './option-rules.ts'
import { ownRouteRules, scopeRules } from './option-lists.ts'
import { type IdempotencyPolicy, idempotencyPolicyOf } from './idempotency-policy.ts'
import { type RetryPolicy, retryPolicyOf } from './retry-policy.ts'

/** How the sessions of an app, a route or a scope work. Computed once for each of them and shared by their sessions. */
export interface SessionConfig {
  readonly mode: 'transaction' | 'autocommit'
  readonly transaction: TransactionConfig
  /** How a statement outside a transaction is sent, in mode 'autocommit'. */
  readonly singleStatement: TransactionConfig
  /** Computes the settings that depend on the request. */
  readonly requestSettings: RequestSettings | null
  readonly commitOn: 'send' | 'response'
  readonly commitIf: RouteOptions['commitIf']
  readonly onAbort: 'rollback' | 'commit'
  readonly serverTiming: boolean
  /** In milliseconds; 0 means no limit. */
  readonly streamTimeout: number
  /** Null: nothing is run again. */
  readonly retry: RetryPolicy | null
  /** Null: a repeated request is a new one. */
  readonly idempotency: IdempotencyPolicy | null
}

/**
 * The configuration of a route.
 *
 * @param path what precedes an option's name in a message
 * @throws FST_PG_SCOPE_OPTIONS
 */
export function routeConfig (defaults: RouteOptions, route: unknown, path: string): SessionConfig {
  checkOptions(route, ownRouteRules, path)
  return sessionConfigOf([defaults, route as RouteOptions], path)
}

/**
 * The configuration of a scope.
 *
 * @throws FST_PG_SCOPE_OPTIONS
 */
export function scopeConfig (defaults: RouteOptions, scope: ScopeOptions): SessionConfig {
  checkOptions(scope, scopeRules, '')
  // A scope has no request and no response: functions of the request do not apply, nor do commitOn, commitIf,
  // onAbort and serverTiming.
  const { settings, role, commitOn, commitIf, onAbort, serverTiming, ...rest } = ownFields(defaults)
  const base: RouteOptions = {
    ...rest,
    ...(typeof settings !== 'function' && { settings }),
    ...(typeof role === 'string' && { role })
  }
  const { signal, ...own } = ownFields(scope)
  return sessionConfigOf([base, own], '')
}

/**
 * @param layers the app's options, then those of a route or scope, which take precedence
 * @param path what precedes an option's name in a message
 * @throws FST_PG_SCOPE_OPTIONS for options that contradict each other
 */
export function sessionConfigOf (layers: readonly RouteOptions[], path: string): SessionConfig {
  const given = layers.map((layer) => ownFields(defined(layer)))
  const options: RouteOptions = ownFields(...given)
  const { mode = 'transaction', commitOn = 'send', commitIf, onAbort = 'rollback', streamTimeout = 600000 } = options
  const retry = retryPolicyOf(options.retry, path)
  checkCombination(options, given.at(-1)!, retry, path)
  const { fixed, requestSettings } = settingsOf(given, options.role)
  const { idleInTransactionTimeout, ...singleOptions } = options
  const singleSettings = options.readOnly === true ? mergeSettings(fixed, { transaction_read_only: 'on' }) : fixed
  return Object.freeze({
    mode,
    transaction: new TransactionConfig(options, fixed),
    singleStatement: new TransactionConfig(singleOptions, singleSettings),
    requestSettings,
    commitOn,
    // In mode 'autocommit' each statement is already committed when a response is sent.
    commitIf: mode === 'autocommit' ? undefined : commitIf,
    onAbort,
    serverTiming: options.serverTiming ?? false,
    streamTimeout,
    // A layer that turns it off for another reason need not say so.
    retry: mode === 'autocommit' || commitOn === 'response' ? null : retry,
    idempotency: idempotencyPolicyOf(options, path)
  })
}

/** @param own the options of the last layer: only there is an option without effect an error */
function checkCombination (
  options: RouteOptions, own: RouteOptions, retry: RetryPolicy | null, path: string
): void {
  const withoutEffect = (name: string, why: string): Error =>
    pgScopeError('FST_PG_SCOPE_OPTIONS', `${quoted(path + name)} has no effect ${why}.`)
  if (options.deferrable === true && !(options.isolation === 'serializable' && options.readOnly === true)) {
    throw withoutEffect('deferrable', 'without `isolation: \'serializable\'` and `readOnly: true`')
  }
  const isRetried = own.retry !== undefined && retry !== null
  if (isRetried && options.commitOn === 'response') {
    throw withoutEffect('retry', 'with `commitOn: \'response\'`, where COMMIT is sent after the response: remove one')
  }
  if (options.mode !== 'autocommit') return
  if (isRetried) {
    throw withoutEffect('retry', 'in mode \'autocommit\', where the statements before the failed one are committed: ' +
      'remove it')
  }
  for (const name of ['commitOn', 'commitIf', 'onAbort'] as const) {
    if (own[name] !== undefined) {
      throw withoutEffect(name, 'in mode \'autocommit\', where each statement is committed separately: remove it')
    }
  }
}

/** Merges the settings of all layers; the last layer takes precedence. A role is not merged: the last one is used. */
function settingsOf (
  layers: readonly RouteOptions[], role: RouteOptions['role']
): { fixed: Settings, requestSettings: RequestSettings | null } {
  const given: GivenSettings[] = layers
    .filter(({ settings }) => settings !== undefined)
    .map(({ settings }) => ({ given: settings, kind: 'settings' }))
  if (role !== undefined) given.push({ given: role, kind: 'role' })
  const fixed = given.map(readFixed)
  const first = fixed.indexOf(null)
  return {
    fixed: mergeSettings(...fixed.slice(0, first === -1 ? undefined : first) as Settings[]),
    // From the first function on, everything is merged for each request, because later values take precedence.
    requestSettings: first === -1 ? null : askEach(given.slice(first))
  }
}

function defined<T extends object> (options: T): T {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as T
}
