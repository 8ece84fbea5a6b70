import { CommitLatency } from '../pool/hand-over.ts'
import { alterMeaning } from '../postgres/meaning.ts'
import { type AnswerTimeout, answerTimeoutOf } from './answer-timeout.ts'
import { Statement } from './statement.ts'
import type { TransactionOptions } from '../../types/options.ts'

/** Names and values of settings, as set_config takes them. Without a prototype: nothing but what was given is ever sent. */
export type Settings = Readonly<Record<string, string>>

/** A later one wins. */
export function mergeSettings (...several: readonly Settings[]): Settings {
  return Object.assign(Object.create(null), ...several)
}

/** How a transaction begins: worked out once for an app, a route or a scope. */
export class TransactionConfig {
  readonly begin: string
  /** The timeouts that were asked for. A connection that has one already, from its startup packet, need not be told. */
  readonly timeouts: Settings
  readonly readOnly: boolean
  /** COMMIT can lose nothing, so nobody has to wait for it. */
  readonly losesNothing: boolean
  /** How long a connection may owe an answer. */
  readonly answerTimeout: AnswerTimeout
  readonly commitLatency = new CommitLatency()
  /** Texts mean something else with its settings. */
  readonly altersMeaning: boolean
  /** Private: inspecting a request, which leads here, must not show their values. */
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
    // A SERIALIZABLE transaction may be refused at COMMIT even if it only read.
    this.losesNothing = readOnly === true && isolation !== 'serializable'
    this.answerTimeout = answerTimeoutOf(options)
    this.altersMeaning = alterMeaning(settings)
    this.#settings = settings
  }

  /** The user's own settings and role: never part of a connection. */
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

/** Whether texts mean something else in a transaction that begins so, or may. */
export function altersMeaning (config: TransactionConfig, requestSettings: Settings | undefined): boolean {
  return config.altersMeaning || (requestSettings !== undefined && alterMeaning(requestSettings))
}

/** One statement that sets them all until the transaction ends, or nothing where the connection has them already. */
export function settingStatement (config: TransactionConfig, baseline: Settings, requestSettings?: Settings): Statement | null {
  const values: string[] = []
  // None of them has a prototype, so that each name is one of their own.
  for (const name in config.timeouts) {
    if (baseline[name] !== config.timeouts[name]) values.push(name, config.timeouts[name]!)
  }
  for (const name in config.settings) values.push(name, config.settings[name]!)
  if (requestSettings !== undefined) for (const name in requestSettings) values.push(name, requestSettings[name]!)
  return values.length === 0 ? null : new Statement(setConfig(values.length / 2), values)
}

const texts: string[] = []
function setConfig (count: number): string {
  texts[count] ??= 'SELECT ' + Array.from({ length: count }, (_, i) => `set_config($${2 * i + 1}, $${2 * i + 2}, true)`).join(', ')
  return texts[count]
}
