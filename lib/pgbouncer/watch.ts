import { isDeepStrictEqual } from 'node:util'
import type { FastifyBaseLogger } from 'fastify'
import type { Pooler } from '../../types/engine.ts'
import type { PgScopeOptions } from '../../types/options.ts'
import { poolerSetByHand, refusesStartup, type ServerParameters } from './detect.ts'
import { refuseUnsupported } from './rules.ts'
import { nameOf, type Target } from '../postgres/target.ts'
import { type Plans, PreparedStatements } from '../postgres/prepared-statements.ts'

/** How often a new connection is looked at where each session has one. Milliseconds. */
const lookInterval = 10000

/** How many texts a connection prepares by itself. */
const mostPrepared = 100

/** What travels in a startup packet; PgBouncer takes none of it. */
const startupSettings = ['statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout']

const noSettings: Record<string, string> = Object.freeze(Object.create(null))

/** The part of a connection that depends on what stands between it and the server. */
export interface InspectedConnection {
  /** Whether answers may be on their way to one session while another writes. */
  sharable: boolean
  prepared: PreparedStatements | null
  /** Called with the process id of the backend that answers; null where it need not be asked. */
  onBackendKnown: ((backend: number) => void) | null
}

interface PoolerOptions {
  readonly pooler: NonNullable<PgScopeOptions['pooler']>
  readonly preparedStatements: PgScopeOptions['preparedStatements']
}

/** What is known of the pooler in between, from connection to connection, and what follows from it. */
export class PoolerWatch {
  pooler: Pooler
  /** What the newest connection announced. */
  serverVersion: string | undefined
  readonly #options: PoolerOptions
  readonly #target: Target
  readonly #startup: Record<string, string>
  readonly #log: FastifyBaseLogger
  readonly #plans: Plans = { generation: 0 }
  /** performance.now() when a connection was last looked at. */
  #looked = -Infinity

  /** @param timeouts those of the app: they travel in the startup packet where that is possible */
  constructor (options: PoolerOptions, target: Target, timeouts: Readonly<Record<string, string>>, log: FastifyBaseLogger) {
    const { pooler, preparedStatements } = options
    this.#options = options
    this.#target = target
    this.#startup = Object.assign(Object.create(null), Object.fromEntries(Object.entries(timeouts).filter(([name]) => startupSettings.includes(name))))
    this.#log = log
    this.pooler = pooler === 'auto' ? { kind: 'unknown' } : poolerSetByHand(pooler, typeof preparedStatements === 'boolean' ? preparedStatements : undefined)
  }

  /** Settings for the startup packet of the next connection. */
  baseline (): Record<string, string> {
    return this.pooler.kind === 'none' ? this.#startup : noSettings
  }

  /** For what the next connection prepares, or null where it may not. */
  prepared (): PreparedStatements | null {
    const { preparedStatements } = this.#options
    return this.#follows ? new PreparedStatements(typeof preparedStatements === 'number' ? preparedStatements : mostPrepared, this.#plans, this.poolsTransactions) : null
  }

  /** Each transaction may run on another server connection. */
  get poolsTransactions (): boolean {
    return this.pooler.kind === 'pgbouncer' && this.pooler.mode === 'transaction'
  }

  /** Whether names are looked for in one schema only. */
  searches (oneSchema: boolean): void {
    this.#plans.oneSchema = oneSchema
  }

  /** Whether what is prepared is there in the next transaction, too. */
  get #follows (): boolean {
    const { pooler } = this
    const { preparedStatements } = this.#options
    if (typeof preparedStatements === 'boolean') return preparedStatements
    return pooler.kind === 'none' || (pooler.kind === 'pgbouncer' && (pooler.mode === 'session' || pooler.preparedStatements))
  }

  /**
   * Looks again at each new connection, for a name may lead somewhere else by now; the question travels with its first batch.
   *
   * @param kept false where each session has a new connection: there it is enough now and then
   */
  inspect (connection: InspectedConnection, parameters: ServerParameters, kept: boolean): void {
    this.serverVersion = parameters.serverVersion
    const announced = parameters.announced()
    // PgBouncer 1.18, which does not say what it is, gives answers that a vanished client has not read to its next one.
    connection.sharable = announced !== null || this.#options.pooler === 'none'
    if (this.#options.pooler !== 'auto') return
    if (announced !== null) return this.#foundBy(connection, announced)
    const now = performance.now()
    // The one that was here said by itself what it is, so this is another, who may know nothing of prepared statements.
    const another = this.pooler.kind === 'pgbouncer' && this.pooler.version !== undefined
    if (another && typeof this.#options.preparedStatements !== 'boolean') connection.prepared = null
    if (!kept && !another && now - this.#looked < lookInterval) return
    this.#looked = now
    connection.onBackendKnown = (backend) => {
      const pooler = parameters.pooler(backend)
      connection.sharable = pooler.kind === 'none'
      this.#foundBy(connection, pooler)
    }
  }

  #foundBy (connection: InspectedConnection, pooler: Pooler): void {
    this.found(pooler)
    // It was opened under what was known before.
    if (!this.#follows) connection.prepared = null
  }

  found (pooler: Pooler): void {
    const { pooler: known } = this
    if (this.#options.pooler !== 'auto' || isDeepStrictEqual(known, pooler)) return
    this.pooler = pooler
    if (known.kind === 'unknown') this.#log.info({ pooler }, `connected to ${nameOf(this.#target)}${pooler.kind === 'pgbouncer' ? ' behind PgBouncer' : ''}`)
    else this.#log.warn({ pooler, before: known }, 'what stands between this process and PostgreSQL has changed')
  }

  /**
   * Whether a connection that was refused will be taken at a second try: a pooler that stands there since the last one refuses the
   * startup packet, and from now on settings go with BEGIN.
   */
  appeared (error: unknown): boolean {
    if (this.#options.pooler !== 'auto' || !refusesStartup(error, startupSettings)) return false
    // Of several connections that were opened at the same time, one is the first to hear of it.
    if (this.pooler.kind === 'none') this.found({ kind: 'pgbouncer', mode: 'transaction', preparedStatements: false })
    return true
  }

  /** @throws FST_PG_SCOPE_POOLER_UNSUPPORTED where the text cannot work over this pooler */
  vet (text: string): void {
    if (this.poolsTransactions) refuseUnsupported(text)
  }
}
