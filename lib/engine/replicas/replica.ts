import type { FastifyBaseLogger } from 'fastify'
import type pg from 'pg'
import type { ReplicaStats } from '../../../types/engine.ts'
import type { EngineIdentity } from '../../../types/telemetry.ts'
import type { ResolvedOptions } from '../../config/options.ts'
import { isPgScopeError, pgScopeError } from '../../errors.ts'
import type { Replica as Destination } from '../../exchange/replica-route.ts'
import { replayedCheck } from '../../exchange/replayed-check.ts'
import type { Statement } from '../../exchange/statement.ts'
import type { Settings } from '../../exchange/transaction-config.ts'
import { PoolerWatch } from '../../pgbouncer/watch.ts'
import { newCounters } from '../../pool/counters.ts'
import type { Pool } from '../../pool/pool.ts'
import { letExit } from '../../process-exit.ts'
import { identityOf, nameOf, type Target, targetOf } from '../../postgres/target.ts'
import { isReached, type WalPosition } from '../../postgres/wal-position.ts'
import { buildPool, buildSessionStateReset, type PoolParts } from '../build-pool.ts'
import { inspect } from '../inspect-server.ts'
import { ReplicaMonitor } from './replica-monitor.ts'
import { problemOf, type ReplicaState } from './replica-state.ts'

/** What a replica needs of its engine. */
export interface ReplicaHost {
  readonly options: ResolvedOptions
  readonly engineIdentity: EngineIdentity
  /** The timeouts of the app. */
  readonly timeouts: Settings
  readonly log: FastifyBaseLogger
  /** A replica can be used from now on, or no longer. */
  changed (): void
}

/** The time between two checks of a replica that is used. Milliseconds. */
const interval = 1000

/** The time between two looks whether the sessions of a removed replica have ended. Milliseconds. */
const leaveInterval = 100

const unchecked = 'it was not checked yet'

/** A standby with its pool. It is used as long as its last check found no problem. */
export class Replica implements Destination {
  /** Identifies it among the replicas. */
  readonly key: string
  readonly pool: Pool
  /** Why it is not used, or null. */
  problem: string | null = unchecked
  readonly #host: ReplicaHost
  readonly #client: pg.ClientConfig
  readonly #target: Target
  readonly #counters = newCounters()
  readonly #parts: PoolParts
  readonly #monitor: ReplicaMonitor
  /** What it said last; null while it cannot be reached. */
  #state: ReplicaState | null = null
  /** It waits for a position by itself (WAIT FOR LSN). */
  #canWait = false
  /** It was reached at least once: its pooler is known. */
  #isInspected = false

  constructor (key: string, client: pg.ClientConfig, host: ReplicaHost) {
    this.key = key
    this.#host = host
    this.#client = client
    this.#target = targetOf(client)
    const { options, log, timeouts } = host
    const { db, decorator } = host.engineIdentity
    const watch = new PoolerWatch(options, this.#target, timeouts, log)
    this.#parts = {
      target: this.#target,
      counters: this.#counters,
      watch,
      sessionState: buildSessionStateReset(options),
      engineIdentity: identityOf(db, decorator, this.#target),
      baseline: () => watch.baseline()
    }
    this.pool = buildPool(Object.freeze({ ...options, client }), this.#parts, log)
    const { maxLag } = options.replicas!
    this.#monitor = new ReplicaMonitor(client, {
      answered: (state) => this.#answered(state, maxLag),
      unreachable: (error) => this.#unreachable(error),
      connected: () => this.#inspect()
    }, Math.min(interval, Math.ceil(maxLag / 2)))
  }

  /** Checks it now, and from then on again and again. */
  begin (): Promise<void> {
    return this.#monitor.check()
  }

  /** The system that it is a copy of, or null. */
  get system (): string | null {
    return this.#replayed === null ? null : this.#replayed.system
  }

  get #replayed (): WalPosition | null {
    return this.#state === null ? null : this.#state.replayed
  }

  /**
   * Whether it can be compared with a position. On an earlier timeline it may have replayed a log that the primary has
   * left; on a later one, what it has not replayed does not exist any more.
   */
  knows ({ system, timeline }: WalPosition): boolean {
    return this.#replayed !== null && this.#replayed.system === system && timeline <= this.#replayed.timeline
  }

  check (position: WalPosition): Statement | null {
    return this.#hasReplayed(position) ? null : replayedCheck(position.lsn, this.#wait)
  }

  /** The check may succeed. @param keepsSnapshot a transaction whose first statement takes its snapshot */
  mayPass (position: WalPosition, keepsSnapshot: boolean): boolean {
    return !keepsSnapshot || this.#wait !== null || this.#hasReplayed(position)
  }

  #hasReplayed ({ system, lsn }: WalPosition): boolean {
    const replayed = this.#replayed
    return replayed !== null && (replayed.system !== system || isReached(lsn, replayed.lsn))
  }

  /** How long the server waits for a position, in milliseconds; null: it only compares. */
  get #wait (): number | null {
    const { waitForReplica } = this.#host.options.replicas!
    return this.#canWait && waitForReplica > 0 ? waitForReplica : null
  }

  /** Sessions that use its connections or wait for one. */
  get load (): number {
    const { inUse, waiting } = this.pool.stats()
    return inUse + waiting
  }

  suspect (): void {
    this.#monitor.suspect()
  }

  /** Detects a pooler in front of it, as the engine does for the primary. */
  async #inspect (): Promise<void> {
    if (this.#isInspected) return
    const version = await inspect(this.#client, this.#host.options.pool.acquireTimeout, this.#parts)
    this.#canWait = version >= 190000
    this.#isInspected = true
    this.pool.warm().catch(() => {}) // the pool opens them when they are needed
  }

  #answered (state: ReplicaState, maxLag: number): boolean {
    this.#state = state
    this.#found(problemOf(state, maxLag))
    return this.problem === null
  }

  #unreachable (error: unknown): void {
    this.#state = null
    const reason = isPgScopeError(error) ? error.details : (error as Error).message || String(error)
    this.#found(`it cannot be reached (${reason})`)
    this.pool.refuseWaiting(pgScopeError('FST_PG_SCOPE_UNREACHABLE', `${nameOf(this.#target)}: the replica cannot ` +
      'be reached.', error))
  }

  #found (problem: string | null): void {
    const before = this.problem
    this.problem = problem
    if ((before === null) === (problem === null) && before !== unchecked) return
    const { log } = this.#host
    if (problem === null) log.info({ replica: this.#name }, 'the replica is used')
    else log.warn({ replica: this.#name, problem }, 'the replica is not used')
    this.#host.changed()
  }

  get #name (): string {
    const { host, port, database } = this.#target
    return `${host}:${port}/${database}`
  }

  stats (): ReplicaStats {
    const { opened, destroyed, acquired, timedOut, refused, roundTrips } = this.#counters
    return {
      name: this.#name,
      inUse: this.problem === null,
      problem: this.problem,
      lag: this.#state === null ? null : this.#state.lag,
      serverVersion: this.#parts.watch.serverVersion,
      pool: this.pool.stats(),
      counters: { opened, destroyed, acquired, timedOut, refused, roundTrips }
    }
  }

  reset (): Promise<void> {
    return this.pool.reset()
  }

  /** It is not used any more, and closes when its sessions have ended. */
  async leave (): Promise<void> {
    this.#monitor.close()
    this.problem = 'it was removed'
    while (this.load > 0) await new Promise((resolve) => { letExit(setTimeout(resolve, leaveInterval, null)) })
    await this.close()
  }

  close (): Promise<void> {
    this.#monitor.close()
    return this.pool.close()
  }
}
