import { isDeepStrictEqual } from 'node:util'
import type { FastifyBaseLogger } from 'fastify'
import type { Pooler } from '../../types/engine.ts'
import type { PgScopeOptions } from '../../types/options.ts'
import { olderPgBouncer, poolerSetByHand, refusesStartup, type ServerParameters } from './detect.ts'
import { refuseUnsupported } from './rules.ts'
import { nameOf, type Target } from '../postgres/target.ts'
import { type Plans, PreparedStatements } from '../postgres/prepared-statements.ts'

/** The time between two checks for a pooler if each session opens a connection. Milliseconds. */
const detectInterval = 10000

/** The number of texts that a connection prepares automatically. */
const mostPrepared = 100

/** Settings that are sent in the startup packet on a direct connection. PgBouncer accepts none of them. */
const startupSettings = ['statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout']

/** What the log says of a connection, by the kind of its pooler. */
const behind: Record<Pooler['kind'], string> = {
  none: '', pgbouncer: ' behind PgBouncer', unknown: ' behind a pooler that does not identify itself'
}

const noSettings: Record<string, string> = Object.freeze(Object.create(null))

/** The part of a connection that depends on whether it leads to a pooler. */
export interface InspectedConnection {
  /** Whether another session may send while answers are pending. */
  sharable: boolean
  /** Whether a batch waits until the one before it is answered. */
  serial: boolean
  /** Each transaction on it may run on another server connection. Null: `onBackendKnown` has to be called first. */
  poolsTransactions: boolean | null
  /** The settings in its startup packet that hold for every transaction on it. */
  baseline: Readonly<Record<string, string>>
  prepared: PreparedStatements | null
  /** Called with the process id of the backend; null if it is not needed. */
  onBackendKnown: ((backend: number) => void) | null
}

/** A call of query() or stream(). */
interface CheckableCall {
  readonly text: string
  /** The text, if it is accepted because no pooler is known. It is checked again by what its connection leads to. */
  uncheckedText: string | null
}

interface PoolerOptions {
  readonly pooler: NonNullable<PgScopeOptions['pooler']>
  readonly preparedStatements: PgScopeOptions['preparedStatements']
}

/**
 * What the connections have shown. 'undetected': there was none yet. 'refusing': a PgBouncer that refused the settings
 * in the startup packet, so nothing else of it is known yet.
 */
type Finding = Pooler | { readonly kind: 'undetected' } | { readonly kind: 'refusing' }

function isFinal (finding: Finding): finding is Pooler {
  return finding.kind !== 'undetected' && finding.kind !== 'refusing'
}

/** PgBouncer does from 1.26 on. */
function announcesItself (finding: Finding): boolean {
  return finding.kind === 'pgbouncer' && finding.version !== undefined
}

/**
 * Knows whether connections lead to a pooler, and decides what follows: settings in the startup packet, prepared
 * statements, hand-over, and statements that are rejected. The engine has one and reports each new connection to it.
 */
export class PoolerWatch {
  #finding: Finding
  /** The last pooler found that does not announce itself. */
  #silent: Pooler = { kind: 'unknown' }
  /** What the newest connection announced. */
  serverVersion: string | undefined
  readonly #options: PoolerOptions
  readonly #target: Target
  readonly #startup: Record<string, string>
  readonly #log: FastifyBaseLogger
  readonly #plans: Plans = { generation: 0 }
  /** performance.now() when a connection was last checked. */
  #detectedAt = -Infinity

  /** @param timeouts the timeouts of the app, sent in the startup packet if possible */
  constructor (
    options: PoolerOptions, target: Target, timeouts: Readonly<Record<string, string>>, log: FastifyBaseLogger
  ) {
    const { pooler, preparedStatements } = options
    this.#options = options
    this.#target = target
    const inStartup = Object.entries(timeouts).filter(([name]) => startupSettings.includes(name))
    this.#startup = Object.assign(Object.create(null), Object.fromEntries(inStartup))
    this.#log = log
    const prepares = typeof preparedStatements === 'boolean' ? preparedStatements : undefined
    this.#finding = pooler === 'auto' ? { kind: 'undetected' } : poolerSetByHand(pooler, prepares)
  }

  get pooler (): Pooler {
    const finding = this.#finding
    return isFinal(finding) ? finding : { kind: 'unknown' }
  }

  /** Settings for the startup packet of the next connection. PgBouncer is identified by refusing them. */
  baseline (): Record<string, string> {
    const { kind } = this.#finding
    return kind === 'none' || kind === 'undetected' ? this.#startup : noSettings
  }

  /** The prepared statements of a new connection, or null if it may not prepare any. */
  prepared (): PreparedStatements | null {
    const { preparedStatements } = this.#options
    if (!this.#mayPrepare) return null
    const most = typeof preparedStatements === 'number' ? preparedStatements : mostPrepared
    return new PreparedStatements(most, this.#plans, this.poolsTransactions)
  }

  /** Each transaction may run on another server connection. */
  get poolsTransactions (): boolean {
    const finding = this.#finding
    return finding.kind === 'unknown' || (finding.kind === 'pgbouncer' && finding.mode === 'transaction')
  }

  /** Records whether the search_path has one schema only. */
  searches (oneSchema: boolean): void {
    this.#plans.oneSchema = oneSchema
  }

  /** Whether a prepared statement still exists in the next transaction. */
  get #mayPrepare (): boolean {
    const finding = this.#finding
    const { preparedStatements } = this.#options
    if (typeof preparedStatements === 'boolean') return preparedStatements
    return finding.kind === 'none' ||
      (finding.kind === 'pgbouncer' && (finding.mode === 'session' || finding.preparedStatements))
  }

  /**
   * Checks a new connection for a pooler, as its host name may lead elsewhere by now. The question is sent with its
   * first batch.
   *
   * @param kept false if each session opens a connection, in which case a check every `detectInterval` is enough
   */
  inspect (connection: InspectedConnection, parameters: ServerParameters, kept: boolean): void {
    this.serverVersion = parameters.serverVersion
    const announced = parameters.announced()
    const known = this.#finding
    // PgBouncer 1.18, which does not announce itself, passes answers that a lost client did not read to its next
    // client.
    connection.sharable = announced !== null || this.#options.pooler === 'none'
    const acceptsSettings = connection.baseline === this.#startup
    // Settings in the startup packet of the first connection identify PgBouncer. A pooler may apply them elsewhere.
    if (known.kind !== 'none') connection.baseline = noSettings
    connection.poolsTransactions = this.poolsTransactions
    if (this.#options.pooler !== 'auto') return
    if (announced !== null) return this.#foundBy(connection, announced)
    connection.serial = known.kind === 'unknown' || known.kind === 'undetected'
    const now = performance.now()
    // The known pooler announces itself, so this is a different one, which may not support prepared statements.
    const isOther = announcesItself(known)
    if (isOther && typeof this.#options.preparedStatements !== 'boolean') connection.prepared = null
    if (!kept && !isOther && isFinal(known) && now - this.#detectedAt < detectInterval) return
    this.#detectedAt = now
    connection.poolsTransactions = null
    connection.onBackendKnown = (backend) => {
      this.#foundBy(connection, this.#identify(parameters.pooler(backend), acceptsSettings))
    }
  }

  /**
   * A pooler that does not announce itself, where PgBouncer was found before, is an older PgBouncer. If a direct
   * connection that was opened earlier has answered in between, it is the pooler because of which this connection was
   * opened without settings.
   */
  #identify (detected: Pooler, acceptsSettings: boolean): Pooler {
    const { kind } = this.#finding
    if (detected.kind !== 'unknown') return detected
    if (kind === 'pgbouncer' || kind === 'refusing') return olderPgBouncer
    return acceptsSettings || Object.keys(this.#startup).length === 0 ? detected : this.#silent
  }

  #foundBy (connection: InspectedConnection, pooler: Pooler): void {
    this.found(pooler)
    // The connection was opened with what was known before.
    connection.sharable = pooler.kind === 'none' || announcesItself(pooler)
    connection.serial = pooler.kind === 'unknown'
    connection.poolsTransactions = this.poolsTransactions
    if (pooler.kind !== 'none') connection.baseline = noSettings
    if (!this.#mayPrepare) connection.prepared = null
  }

  found (pooler: Pooler): void {
    const known = this.#finding
    if (this.#options.pooler !== 'auto' || isDeepStrictEqual(known, pooler)) return
    this.#finding = pooler
    if (pooler.kind !== 'none' && !announcesItself(pooler)) this.#silent = pooler
    if (!isFinal(known)) this.#log.info({ pooler }, `connected to ${nameOf(this.#target)}${behind[pooler.kind]}`)
    else {
      this.#log.warn({ pooler, before: known }, 'what stands between this process and PostgreSQL has changed')
    }
  }

  /**
   * Whether the server will accept a second attempt after this refusal. A pooler that was put in between since the last
   * connection refuses the startup packet; from now on, settings are sent with BEGIN.
   */
  appeared (error: unknown): boolean {
    if (this.#options.pooler !== 'auto' || !refusesStartup(error, startupSettings)) return false
    // Several connections may be refused at the same time; only the first changes the state.
    if (this.#finding.kind === 'none') this.found(olderPgBouncer)
    if (this.#finding.kind === 'undetected') this.#finding = { kind: 'refusing' }
    return true
  }

  /** @throws FST_PG_SCOPE_POOLER_UNSUPPORTED if the text cannot work behind this pooler */
  vet (call: CheckableCall): void {
    if (this.poolsTransactions) refuseUnsupported(call.text)
    else call.uncheckedText = call.text
  }
}
