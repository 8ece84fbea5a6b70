import type { FastifyRequest } from 'fastify'
import { pgScopeError } from '../errors.ts'
import { isPlainObject, isPromiseLike, kindOf } from '../kind-of.ts'
import { mergeSettings, type Settings } from '../exchange/transaction-config.ts'
import type { SettingValue } from '../../types/options.ts'

/**
 * A setting's name is an identifier, perhaps with a prefix
 * (https://www.postgresql.org/docs/current/runtime-config-custom.html).
 */
const settingName = /^[a-z_][\w$]*(?:\.[a-z_][\w$]*)*$/i

/**
 * Settings that decide the rights of the transaction: the option `role` sets them. PostgreSQL ignores the case of a
 * name.
 */
const reserved = new Set(['role', 'session_authorization', 'is_superuser'])

/**
 * Validates a user's settings.
 *
 * @param what the start of the error message: names the option, or the function that returned the settings
 * @throws FST_PG_SCOPE_OPTIONS
 */
export function readSettings (given: unknown, what = '`settings` must be'): Settings {
  if (!isPlainObject(given)) throw invalidOption(`${what} a plain object of names and values, got ${kindOf(given)}`)
  const settings: Record<string, string> = Object.create(null)
  for (const [name, value] of Object.entries(given)) {
    if (!settingName.test(name)) {
      throw invalidOption(`\`settings\`: ${JSON.stringify(name)} is not the name of a setting; ` +
        'use for example "app.tenant" or "search_path"')
    }
    if (reserved.has(name.toLowerCase())) {
      throw invalidOption(`\`settings.${name}\` cannot be set this way: use the option \`role\``)
    }
    if (!isSettingValue(value)) {
      throw invalidOption(`\`settings.${name}\` must be a string, a finite number or a boolean, got ${kindOf(value)}`)
    }
    settings[name] = String(value)
    if (settings[name].includes('\0')) {
      throw invalidOption(`\`settings.${name}\` must not contain a zero byte: PostgreSQL cannot store it`)
    }
  }
  return settings
}

/**
 * Validates the name of a role.
 *
 * @param what the start of the error message: names the option, or the function that returned the role
 * @throws FST_PG_SCOPE_OPTIONS
 */
export function readRole (given: unknown, what = '`role` must be'): Settings {
  if (typeof given !== 'string' || given === '') throw invalidOption(`${what} the name of a role, got ${kindOf(given)}`)
  if (given.includes('\0')) throw invalidOption('`role` must not contain a zero byte: PostgreSQL cannot store it')
  // In PostgreSQL 'none' stands for the login role (https://www.postgresql.org/docs/current/sql-set-role.html).
  if (given === 'none') {
    throw invalidOption('`role` must be the name of a role: \'none\' would restore ' +
      'all rights of the login role. To use the login role, omit the option')
  }
  return mergeSettings({ role: given })
}

function isSettingValue (value: unknown): value is SettingValue {
  return typeof value === 'string' || typeof value === 'boolean' || Number.isFinite(value)
}

function invalidOption (what: string): Error {
  return pgScopeError('FST_PG_SCOPE_OPTIONS', `${what}.`)
}

/** The `settings` or `role` of the app or of a route, as the user gave it. */
export interface GivenSettings {
  readonly given: unknown
  readonly kind: 'settings' | 'role'
}

const readers = {
  settings: (result: unknown): Settings => readSettings(result, '`settings(request)` must return'),
  role: (result: unknown): Settings => readRole(result, '`role(request)` must return')
}

/**
 * @returns the settings, or null for a function, whose result is validated when it is called
 * @throws FST_PG_SCOPE_OPTIONS
 */
export function readFixed ({ given, kind }: GivenSettings): Settings | null {
  if (typeof given === 'function') return null
  return kind === 'role' ? readRole(given) : readSettings(given)
}

/** Computes the settings of a request; returns a promise if a user's function returned one. */
export type RequestSettings = (request: FastifyRequest) => Settings | Promise<Settings>

/**
 * Calls each of the user's functions once, in order. Later settings override earlier ones.
 *
 * @throws what a function throws; FST_PG_SCOPE_OPTIONS for a result of the wrong type. Asynchronous functions reject
 * with it
 */
export function askEach (sources: readonly GivenSettings[]): RequestSettings {
  const read = (results: readonly unknown[]): Settings =>
    mergeSettings(...results.map((result, i) => readers[sources[i]!.kind](result)))
  return (request) => {
    const results: unknown[] = []
    let pending = false
    try {
      for (const { given } of sources) {
        const result: unknown = typeof given === 'function' ? given(request) : given
        pending ||= isPromiseLike(result)
        results.push(result)
      }
    } catch (error) {
      // The promises of the other functions are not used: a rejection must not be unhandled.
      for (const result of results) if (isPromiseLike(result)) result.then(undefined, () => {})
      throw error
    }
    return pending ? Promise.all(results).then(read) : read(results)
  }
}

/**
 * The settings of a request's session, computed for each transaction. A user's function must not use that session: its
 * statement would wait for itself.
 */
export function settingsFor (request: FastifyRequest, ask: RequestSettings): () => Settings | Promise<Settings> {
  let asking = false
  return () => {
    if (asking) {
      throw pgScopeError('FST_PG_SCOPE_SESSION_STATE', '`settings(request)` or `role(request)` used the session ' +
        'of its own request, which waits for its result. Use `app.db.query()` there.')
    }
    asking = true
    try {
      return ask(request)
    } finally {
      asking = false
    }
  }
}
