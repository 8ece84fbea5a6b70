import { CommitLatency } from '../pool/hand-over.ts'
import { alterMeaning } from '../postgres/meaning.ts'
import { type AnswerTimeout, answerTimeoutOf } from './answer-timeout.ts'
import type { TransactionModes } from '../transaction-modes.ts'
import { Statement } from './statement.ts'
import type { TransactionOptions } from '../../types/options.ts'

/**
 * Names and values of settings, for set_config(). The object has no prototype, so that only the given names are sent.
 */
export type Settings = Readonly<Record<string, string>>

/** Later settings override earlier ones. */
export function mergeSettings (...several: readonly Settings[]): Settings {
  return Object.assign(Object.create(null), ...several)
}

/** How a transaction begins; computed once for an app, a route or a scope. */
export class TransactionConfig {
  readonly begin: string
  /** The configured timeouts. One that the connection's startup packet has already set is not sent. */
  readonly timeouts: Settings
  readonly readOnly: boolean
  /** As the options have them: undefined is the server's default. */
  readonly modes: TransactionModes
  /** COMMIT has nothing to save, so its answer need not be awaited. */
  readonly losesNothing: boolean
  /** It may run on a replica. */
  readonly replicable: boolean
  /** The primary serves it if no replica can. */
  readonly fallback: boolean
  readonly answerTimeout: AnswerTimeout
  readonly commitLatency = new CommitLatency()
  /** Its settings may change what a statement's text means, for example search_path. */
  readonly altersMeaning: boolean
  /** Private: inspecting a request, which refers to this object, must not show the values. */
  readonly #settings: Settings

  constructor (options: TransactionOptions, settings: Settings) {
    const { isolation, readOnly, deferrable } = options
    const words = ['BEGIN']
    if (isolation !== undefined) words.push('ISOLATION LEVEL', isolation.toUpperCase())
    if (readOnly !== undefined) words.push(readOnly ? 'READ ONLY' : 'READ WRITE')
    if (deferrable === true) words.push('DEFERRABLE')
    this.begin = words.join(' ')
    this.timeouts = timeouts(options)
    this.readOnly = readOnly === true
    this.modes = { isolation, readOnly, deferrable }
    // COMMIT of a SERIALIZABLE transaction may fail even if the transaction only read.
    this.losesNothing = readOnly === true && isolation !== 'serializable'
    // A standby refuses SERIALIZABLE.
    this.replicable = this.losesNothing && options.replica !== false
    this.fallback = options.fallback !== false
    this.answerTimeout = answerTimeoutOf(options)
    this.altersMeaning = alterMeaning(settings)
    this.#settings = settings
  }

  /** The user's settings and role, which are always local to a transaction. */
  get settings (): Settings {
    return this.#settings
  }
}

export type TimeoutOption = 'statementTimeout' | 'lockTimeout' | 'idleInTransactionTimeout' | 'transactionTimeout'

const timeoutNames: Record<TimeoutOption, string> = {
  statementTimeout: 'statement_timeout',
  lockTimeout: 'lock_timeout',
  idleInTransactionTimeout: 'idle_in_transaction_session_timeout',
  transactionTimeout: 'transaction_timeout'
}

export function timeouts (options: TransactionOptions): Settings {
  const settings: Record<string, string> = Object.create(null)
  for (const [option, name] of Object.entries(timeoutNames)) {
    const value = options[option as TimeoutOption]
    if (value !== undefined) settings[name] = String(value)
  }
  return settings
}

/** Whether the settings of a transaction may change what a statement's text means. */
export function altersMeaning (config: TransactionConfig, requestSettings: Settings | undefined): boolean {
  return config.altersMeaning || (requestSettings !== undefined && alterMeaning(requestSettings))
}

/** The setting of a transaction (https://www.postgresql.org/docs/current/runtime-config-client.html). */
const readOnlySetting = 'transaction_read_only'

/** Whether a transaction is read-only by its options or settings, or may be. */
export function setsReadOnly ({ readOnly, settings }: TransactionConfig, requestSettings?: Settings): boolean {
  if (readOnly || readOnlySetting in settings) return true
  return requestSettings !== undefined && readOnlySetting in requestSettings
}

/**
 * One statement that makes all settings until the end of the transaction, or null if the connection has them already.
 */
export function settingStatement (
  config: TransactionConfig, baseline: Settings, requestSettings?: Settings, trace: Settings | null = null
): Statement | null {
  const values: string[] = []
  // The objects have no prototype, so for … in sees own names only.
  for (const name in config.timeouts) {
    if (baseline[name] !== config.timeouts[name]) values.push(name, config.timeouts[name]!)
  }
  if (trace !== null) for (const name in trace) values.push(name, trace[name]!)
  for (const name in config.settings) values.push(name, config.settings[name]!)
  if (requestSettings !== undefined) for (const name in requestSettings) values.push(name, requestSettings[name]!)
  return values.length === 0 ? null : new Statement(setConfig(values.length / 2), values)
}

const texts: string[] = []
function setConfig (count: number): string {
  const call = (i: number): string => `set_config($${2 * i + 1}, $${2 * i + 2}, true)`
  const calls = (): string[] => Array.from({ length: count }, (_, i) => call(i))
  texts[count] ??= `SELECT ${calls().join(', ')}`
  return texts[count]
}
