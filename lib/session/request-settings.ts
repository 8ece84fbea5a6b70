import type { FastifyRequest } from 'fastify'
import { pgScopeError } from '../errors.ts'
import { isPlainObject, isPromiseLike, kindOf } from '../kind-of.ts'
import { mergeSettings, type Settings } from '../exchange/transaction-config.ts'
import type { SettingValue } from '../../types/options.ts'

/** A setting's name is an identifier, perhaps with a prefix (https://www.postgresql.org/docs/current/runtime-config-custom.html). */
const settingName = /^[a-z_][\w$]*(?:\.[a-z_][\w$]*)*$/i

/** These decide what the transaction may do, and have rules of their own. PostgreSQL ignores the case of a name. */
const reserved = new Set(['role', 'session_authorization', 'is_superuser'])

/**
 * Reads a user's settings.
 *
 * @param what how the message names them: the option, or the function that returned them
 * @throws FST_PG_SCOPE_OPTIONS
 */
export function readSettings (given: unknown, what = '`settings` must be'): Settings {
  if (!isPlainObject(given)) throw wrong(`${what} a plain object of names and values, got ${kindOf(given)}`)
  const settings: Record<string, string> = Object.create(null)
  for (const [name, value] of Object.entries(given)) {
    if (!settingName.test(name)) throw wrong(`\`settings\`: ${JSON.stringify(name)} is not the name of a setting; write for example "app.tenant" or "search_path"`)
    if (reserved.has(name.toLowerCase())) throw wrong(`\`settings.${name}\` cannot be set this way: use the option \`role\``)
    if (!isSettingValue(value)) throw wrong(`\`settings.${name}\` must be a string, a finite number or a boolean, got ${kindOf(value)}`)
    settings[name] = String(value)
    if (settings[name].includes('\0')) throw wrong(`\`settings.${name}\` must not contain a zero byte: PostgreSQL cannot store it`)
  }
  return settings
}

/**
 * Reads the name of a role.
 *
 * @param what how the message names it: the option, or the function that returned it
 * @throws FST_PG_SCOPE_OPTIONS
 */
export function readRole (given: unknown, what = '`role` must be'): Settings {
  if (typeof given !== 'string' || given === '') throw wrong(`${what} the name of a role, got ${kindOf(given)}`)
  if (given.includes('\0')) throw wrong('`role` must not contain a zero byte: PostgreSQL cannot store it')
  // To PostgreSQL the word means the login role (https://www.postgresql.org/docs/current/sql-set-role.html).
  if (given === 'none') throw wrong('`role` must be the name of a role: \'none\' would restore all rights of the login role. Leave the option out for that')
  return mergeSettings({ role: given })
}

function isSettingValue (value: unknown): value is SettingValue {
  return typeof value === 'string' || typeof value === 'boolean' || (typeof value === 'number' && Number.isFinite(value))
}

function wrong (what: string): Error {
  return pgScopeError('FST_PG_SCOPE_OPTIONS', `${what}.`)
}

/** What a user gave as `settings` or `role`, for the app or for a route. */
export interface GivenSettings {
  readonly given: unknown
  readonly kind: 'settings' | 'role'
}

const readers = {
  settings: (answer: unknown): Settings => readSettings(answer, '`settings(request)` must return'),
  role: (answer: unknown): Settings => readRole(answer, '`role(request)` must return')
}

/** @throws FST_PG_SCOPE_OPTIONS unless it is right, or a function, whose answer nobody knows yet */
export function readFixed ({ given, kind }: GivenSettings): Settings | null {
  if (typeof given === 'function') return null
  return kind === 'role' ? readRole(given) : readSettings(given)
}

/** Settings that depend on the request: a promise where a function returned one. */
export type RequestSettings = (request: FastifyRequest) => Settings | Promise<Settings>

/**
 * Asks each of the user's functions once, in order; a later one wins.
 *
 * @throws what a function throws, FST_PG_SCOPE_OPTIONS for an answer of the wrong type; as a rejection where one has to be awaited
 */
export function askEach (sources: readonly GivenSettings[]): RequestSettings {
  const read = (answers: readonly unknown[]): Settings => mergeSettings(...answers.map((answer, i) => readers[sources[i]!.kind](answer)))
  return (request) => {
    const answers: unknown[] = []
    let pending = false
    try {
      for (const { given } of sources) {
        const answer: unknown = typeof given === 'function' ? given(request) : given
        pending ||= isPromiseLike(answer)
        answers.push(answer)
      }
    } catch (error) {
      // Nobody will look at what the others promised.
      for (const answer of answers) if (isPromiseLike(answer)) answer.then(undefined, () => {})
      throw error
    }
    return pending ? Promise.all(answers).then(read) : read(answers)
  }
}

/** What a session asks for each transaction of its request. A function must not use that session: its statement would wait for itself. */
export function settingsFor (request: FastifyRequest, ask: RequestSettings): () => Settings | Promise<Settings> {
  let asking = false
  return () => {
    if (asking) {
      throw pgScopeError('FST_PG_SCOPE_SESSION_STATE', '`settings(request)` or `role(request)` used the session of its own request, which waits for its answer. Use `app.db.query()` there.')
    }
    asking = true
    try {
      return ask(request)
    } finally {
      asking = false
    }
  }
}
