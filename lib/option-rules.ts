import { pgScopeError } from './errors.ts'

/** What is expected of a value, in words, or null where the value will do. */
export type Rule = (value: unknown) => string | null
export type Rules = Readonly<Record<string, Rule>>

const expected = (words: string, holds: (value: unknown) => boolean): Rule => (value) => holds(value) ? null : words

/** The largest setting that PostgreSQL takes for a time, and Node for a timer. */
const longest = 2147483647

export const isBoolean = expected('true or false', (value) => typeof value === 'boolean')
export const isFunction = expected('a function', (value) => typeof value === 'function')
export const isText = expected('a string that is not empty', (value) => typeof value === 'string' && value !== '')
export const isDuration = expected('a whole number of milliseconds from 0 on', (value) => isWhole(value, 0))
export const isWait = expected('a whole number of milliseconds from 1 on', (value) => isWhole(value, 1))
export const isCount = (least: number): Rule => expected(`a whole number from ${least} on`, (value) => isWhole(value, least))
export const isPort = expected('a port from 1 to 65535', (value) => isWhole(value, 1) && Number(value) <= 65535)
export const isObject = expected('an object', (value) => typeof value === 'object' && value !== null && !Array.isArray(value))
export const isOneOf = (...values: string[]): Rule => expected(values.map((value) => `'${value}'`).join(' or '), (value) => values.includes(value as string))
export const either = (...rules: Rule[]): Rule => (value) => {
  const wrong = rules.map((rule) => rule(value))
  return wrong.includes(null) ? null : wrong.join(' or ')
}

function isWhole (value: unknown, least: number): boolean {
  return Number.isInteger(value) && (value as number) >= least && (value as number) <= longest
}

/** Options whose value is never shown. */
const secret = new Set(['connectionString', 'password', 'ssl', 'settings'])

/** What pg and others call what we call otherwise. */
const aliases: Record<string, string> = {
  uri: 'connectionString',
  url: 'connectionString',
  connectionurl: 'connectionString',
  name: 'decorator',
  namespace: 'decorator',
  connectiontimeout: 'pool.acquireTimeout',
  connectiontimeoutmillis: 'pool.acquireTimeout',
  idletimeoutmillis: 'pool.idleTimeout',
  maxlifetimeseconds: 'pool.maxLifetime (milliseconds)',
  querytimeout: 'statementTimeout',
  idleintransactionsessiontimeout: 'idleInTransactionTimeout',
  isolationlevel: 'isolation',
  poolsize: 'pool.max',
  max: 'pool.max',
  min: 'pool.min'
}

/**
 * Holds options against rules. An option that is undefined counts as not given.
 *
 * @param path what stands before an option's name in a message
 * @throws FST_PG_SCOPE_OPTIONS
 */
export function checkOptions (options: unknown, rules: Rules, path: string): void {
  const wrong = isObject(options)
  if (wrong !== null) throw optionsError(path.replace(/\.$/, '') || 'options', wrong, options)
  for (const [name, value] of Object.entries(options as object)) {
    if (value === undefined) continue
    const rule = Object.hasOwn(rules, name) ? rules[name] : undefined
    if (rule === undefined) throw pgScopeError('FST_PG_SCOPE_OPTIONS', `${path}${name}: there is no such option.${hint(name, rules)} Known here: ${Object.keys(rules).join(', ')}.`)
    const expected = rule(value)
    if (expected !== null) throw optionsError(path + name, expected, value)
  }
}

/** An error that says what was expected, and what came. */
export function optionsError (path: string, expected: string, value: unknown): Error {
  const hidden = path.split('.').some((name) => secret.has(name))
  return pgScopeError('FST_PG_SCOPE_OPTIONS', `${path}: expected ${expected}, and ${hidden ? kindOf(value) : shown(value)} came.`)
}

function hint (name: string, rules: Rules): string {
  const plain = name.toLowerCase().replaceAll(/[_-]/g, '')
  const meant = Object.keys(rules).find((known) => known.toLowerCase() === plain) ?? aliases[plain]
  return meant === undefined ? '' : ` Did you mean ${meant}?`
}

function shown (value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.length > 60 ? value.slice(0, 60) + '…' : value)
  return typeof value === 'number' || typeof value === 'boolean' ? String(value) : kindOf(value)
}

function kindOf (value: unknown): string {
  if (value === null) return 'null'
  if (value === '') return 'an empty string'
  return Array.isArray(value) ? 'an array' : `${/^[aeiou]/.test(typeof value) ? 'an' : 'a'} ${typeof value}`
}
