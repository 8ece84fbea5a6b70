import { pgScopeError } from '../errors.ts'
import { isPlainObject, kindOf } from '../kind-of.ts'

/** Returns null for a valid value, otherwise what is allowed, in words. */
export type Rule = (value: unknown) => string | null
export type Rules = Readonly<Record<string, Rule>>

export const expected = (
  words: string, holds: (value: unknown) => boolean
): Rule => (value) => holds(value) ? null : words

/** The longest duration that a setting of PostgreSQL and a timer of Node accept. */
const longest = 2147483647

export const isBoolean = expected('true or false', (value) => typeof value === 'boolean')
export const isOff = expected('false', (value) => value === false)
export const isFunction = expected('a function', (value) => typeof value === 'function')
export const isText: Rule = (value) => {
  if (typeof value !== 'string' || value === '') return 'a non-empty string'
  // A zero byte ends a string of the startup packet: PostgreSQL would read the rest as further parameters.
  return value.includes('\0') ? 'a string without zero bytes' : null
}
export const isDuration = isInteger(0, ' (milliseconds)')
export const isWait = isInteger(1, ' (milliseconds)')
export const isCount = (least: number): Rule => isInteger(least)
export const isPort = expected('an integer from 1 to 65535', (value) =>
  Number.isInteger(value) && Number(value) >= 1 && Number(value) <= 65535)
/** Several ports in the form of libpq: '5432,5433'. An empty element is the default. */
export const isPortList = (value: unknown): value is string => typeof value === 'string' && value.includes(',') &&
  value.split(',').every((each) => each === '' || (/^\d+$/.test(each) && isPort(Number(each)) === null))
export const isAbortSignal = expected('an AbortSignal', (value) => value instanceof AbortSignal)
export const isObject = expected('a plain object', isPlainObject)
/** An object of any class. */
export const isInstance = expected('an object', (value) =>
  typeof value === 'object' && value !== null && !Array.isArray(value))
export const isListOfText = expected('an array of non-empty strings', (value) =>
  Array.isArray(value) && value.every((each) => isText(each) === null))
export const isOneOf = (...values: string[]): Rule =>
  expected(list(values.map((value) => `'${value}'`)), (value) => values.includes(value as string))
export const either = (...rules: Rule[]): Rule => (value) => {
  const wrong = rules.map((rule) => rule(value))
  return wrong.includes(null) ? null : wrong.join(' or ')
}

function isInteger (least: number, unit = ''): Rule {
  return (value) => {
    if (!Number.isInteger(value) || (value as number) < least) return `an integer ≥ ${least}${unit}`
    return (value as number) > longest ? `an integer ≤ ${longest}${unit}` : null
  }
}

function list (values: readonly string[]): string {
  return values.length < 3 ? values.join(' or ') : `${values.slice(0, -1).join(', ')} or ${values.at(-1)}`
}

/** Options whose values never appear in a message. */
const secret = new Set(['connectionString', 'directUrl', 'replicas', 'secret', 'password', 'ssl', 'settings'])

/** Names of pg and other libraries, lower case and without separators, and the option of this package. */
const aliases: Record<string, string> = {
  uri: 'connectionString',
  url: 'connectionString',
  connectionurl: 'connectionString',
  name: 'decorator',
  namespace: 'decorator',
  connectiontimeout: 'pool.acquireTimeout',
  connectiontimeoutmillis: 'pool.acquireTimeout',
  idletimeoutmillis: 'pool.idleTimeout',
  maxlifetimeseconds: 'pool.maxLifetime',
  querytimeout: 'statementTimeout',
  idleintransactionsessiontimeout: 'idleInTransactionTimeout',
  isolationlevel: 'isolation',
  poolsize: 'pool.max',
  max: 'pool.max',
  min: 'pool.min'
}

/**
 * Checks options against rules. An undefined option counts as absent.
 *
 * @param path what precedes an option's name in a message
 * @throws FST_PG_SCOPE_OPTIONS
 */
export function checkOptions (options: unknown, rules: Rules, path: string): void {
  const allowed = isObject(options)
  if (allowed !== null) throw optionsError(path.replace(/\.$/, '') || 'options', allowed, options)
  for (const [name, value] of Object.entries(options as object)) {
    if (value === undefined) continue
    const rule = Object.hasOwn(rules, name) ? rules[name] : undefined
    if (rule === undefined) {
      const known = Object.keys(rules).join(', ')
      const details = `${quoted(path + name)} is not an option.${hint(name, rules)} Options here: ${known}.`
      throw pgScopeError('FST_PG_SCOPE_OPTIONS', details)
    }
    const expected = rule(value)
    if (expected !== null) throw optionsError(path + name, expected, value)
  }
}

/** The error for an invalid value. It says what is allowed and what was given. */
export function optionsError (path: string, expected: string, value: unknown): Error {
  const hidden = path.split('.').some((name) => secret.has(name))
  const given = hidden ? kindOf(value) : shown(value)
  return pgScopeError('FST_PG_SCOPE_OPTIONS', `${quoted(path)} must be ${expected}, got ${given}.`)
}

/** Quotes the name at the end of a path, which may begin with a route: GET /users: `config.db.role` */
export function quoted (path: string): string {
  return path.replace(/\S+$/, '`$&`')
}

function hint (name: string, rules: Rules): string {
  const plain = name.toLowerCase().replaceAll(/[_-]/g, '')
  const alias = Object.hasOwn(aliases, plain) ? aliases[plain] : undefined
  const meant = Object.keys(rules).find((known) => known.toLowerCase() === plain) ?? alias
  return meant === undefined ? '' : ` Did you mean \`${meant}\`?`
}

function shown (value: unknown): string {
  if (typeof value === 'string' && value !== '') {
    return JSON.stringify(value.length > 60 ? value.slice(0, 60) + '…' : value)
  }
  return typeof value === 'number' || typeof value === 'boolean' ? String(value) : kindOf(value)
}
