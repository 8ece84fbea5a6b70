import { pgScopeError } from '../errors.ts'
import { CommitPace } from '../pool/hand-over.ts'
import { alterMeaning } from '../postgres/meaning.ts'
import { type Silence, silenceOf } from './silence.ts'
import { Statement } from './statement.ts'
import type { SettingValue, TransactionOptions } from '../../types/options.ts'

/** Names and values of settings, as set_config takes them. */
export type Settings = Readonly<Record<string, string>>

/** How a transaction begins: worked out once for an app, a route or a scope. */
export interface Beginning {
  readonly begin: string
  /** The timeouts that were asked for. A connection that has one already, from its startup packet, need not be told. */
  readonly timeouts: Settings
  /** The user's own settings and role: never part of a connection. */
  readonly settings: Settings
  readonly readOnly: boolean
  /** COMMIT can lose nothing, so nobody has to wait for it. */
  readonly losesNothing: boolean
  /** How long a connection may owe an answer. */
  readonly silence: Silence
  readonly pace: CommitPace
  /** Texts mean something else with its settings. */
  readonly altersMeaning: boolean
}

export type TimeoutOption = 'statementTimeout' | 'lockTimeout' | 'idleInTransactionTimeout' | 'transactionTimeout'

const timeoutNames: Record<TimeoutOption, string> = {
  statementTimeout: 'statement_timeout',
  lockTimeout: 'lock_timeout',
  idleInTransactionTimeout: 'idle_in_transaction_session_timeout',
  transactionTimeout: 'transaction_timeout'
}

export function beginning (options: TransactionOptions, settings: Settings): Beginning {
  const words = ['BEGIN']
  if (options.isolation !== undefined) words.push('ISOLATION LEVEL', options.isolation.toUpperCase())
  if (options.readOnly !== undefined) words.push(options.readOnly ? 'READ ONLY' : 'READ WRITE')
  if (options.deferrable === true) words.push('DEFERRABLE')
  return {
    begin: words.join(' '),
    timeouts: timeouts(options),
    settings,
    readOnly: options.readOnly === true,
    // A SERIALIZABLE transaction may be refused at COMMIT even if it only read.
    losesNothing: options.readOnly === true && options.isolation !== 'serializable',
    silence: silenceOf(options),
    pace: new CommitPace(),
    altersMeaning: alterMeaning(settings)
  }
}

export function timeouts (options: TransactionOptions): Settings {
  const settings: Record<string, string> = {}
  for (const [option, name] of Object.entries(timeoutNames)) {
    const value = options[option as TimeoutOption]
    if (value !== undefined) settings[name] = String(value)
  }
  return settings
}

/** Whether texts mean something else in a transaction that begins so, or may. */
export function altersMeaning (beginning: Beginning, extra: Settings | undefined): boolean {
  return beginning.altersMeaning || (extra !== undefined && alterMeaning(extra))
}

/** A setting's name is an identifier, perhaps with a prefix (https://www.postgresql.org/docs/current/runtime-config-custom.html). */
const settingName = /^[a-z_][\w$]*(?:\.[a-z_][\w$]*)*$/i

/**
 * Reads a user's settings and role.
 *
 * @throws FST_PG_SCOPE_OPTIONS
 */
export function readSettings (settings: unknown, role: unknown): Settings {
  const read: Record<string, string> = {}
  if (settings !== undefined) {
    if (typeof settings !== 'object' || settings === null || Array.isArray(settings)) {
      throw pgScopeError('FST_PG_SCOPE_OPTIONS', `settings: expected an object of names and values, and ${settings === null ? 'null' : Array.isArray(settings) ? 'an array' : typeof settings} came.`)
    }
    for (const [name, value] of Object.entries(settings)) {
      if (!settingName.test(name)) throw pgScopeError('FST_PG_SCOPE_OPTIONS', `settings: ${JSON.stringify(name)} is no name of a setting; expected for example "app.tenant" or "search_path".`)
      if (!isSettingValue(value)) throw pgScopeError('FST_PG_SCOPE_OPTIONS', `settings.${name}: expected a string, a number or a boolean, and ${value === null ? 'null' : typeof value} came.`)
      if (String(value).includes('\0')) throw pgScopeError('FST_PG_SCOPE_OPTIONS', `settings.${name}: holds a zero byte, which PostgreSQL cannot take.`)
      read[name] = String(value)
    }
  }
  if (role !== undefined) {
    if (typeof role !== 'string' || role === '') throw pgScopeError('FST_PG_SCOPE_OPTIONS', `role: expected the name of a role, and ${role === '' ? 'an empty string' : role === null ? 'null' : typeof role} came.`)
    if (role.includes('\0')) throw pgScopeError('FST_PG_SCOPE_OPTIONS', 'role: holds a zero byte, which PostgreSQL cannot take.')
    read.role = role
  }
  return read
}

function isSettingValue (value: unknown): value is SettingValue {
  return typeof value === 'string' || typeof value === 'boolean' || (typeof value === 'number' && Number.isFinite(value))
}

/** One statement that sets them all until the transaction ends, or nothing where the connection has them already. */
export function settingStatement (beginning: Beginning, baseline: Settings, extra?: Settings): Statement | null {
  const values: string[] = []
  for (const name in beginning.timeouts) {
    if (baseline[name] !== beginning.timeouts[name]) values.push(name, beginning.timeouts[name]!)
  }
  for (const name in beginning.settings) values.push(name, beginning.settings[name]!)
  if (extra !== undefined) for (const name in extra) values.push(name, extra[name]!)
  return values.length === 0 ? null : new Statement(setConfig(values.length / 2), values)
}

const texts: string[] = []
function setConfig (count: number): string {
  texts[count] ??= 'SELECT ' + Array.from({ length: count }, (_, i) => `set_config($${2 * i + 1}, $${2 * i + 2}, true)`).join(', ')
  return texts[count]
}
