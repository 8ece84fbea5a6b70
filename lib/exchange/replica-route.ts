import { isPgScopeError, pgScopeError } from '../errors.ts'
import type { Pool } from '../pool/pool.ts'
import { mayBeOfStandby, ranOutOfTime } from '../postgres/sqlstate.ts'
import type { WalPosition } from '../postgres/wal-position.ts'
import type { BatchFailure } from './batch-failure.ts'
import type { Statement } from './statement.ts'
import type { TransactionConfig } from './transaction-config.ts'

/** A server that serves reads. */
export interface Replica {
  readonly pool: Pool
  /** A request could not use it: it is checked again. */
  suspect (): void
  /** What must precede the first statement, so that nothing older is read; null if it has replayed the position. */
  check (notBefore: WalPosition): Statement | null
}

/** The replicas of an engine. */
export interface ReplicaChoice {
  /** COMMIT must be asked for its position. */
  readonly followsWrites: boolean
  /**
   * @param keepsSnapshot all statements of the transaction see what the first one sees
   * @returns one that can be used now, may reach the position and was not left before, or null
   */
  choose (left: readonly Replica[], notBefore: WalPosition | null, keepsSnapshot: boolean): Replica | null
}

/** Errors of a pool whose server cannot be used. If the pool is exhausted, the primary must not get its load too. */
const unusable: readonly string[] = [
  'FST_PG_SCOPE_UNREACHABLE', 'FST_PG_SCOPE_LOGIN_REFUSED', 'FST_PG_SCOPE_CLOSED', 'FST_PG_SCOPE_CONNECTION_LOST'
]

/**
 * Which server one read-only transaction or statement runs on. It begins on a replica; if that one fails it, it is
 * sent again elsewhere: reads have no effect that could happen twice.
 *
 *     choose() ─► replica ─► leave() ─► choose() ─► the primary; with `fallback: false` another replica, or an error
 */
export class ReplicaRoute {
  readonly #replicas: ReplicaChoice
  readonly #fallback: boolean
  readonly #keepsSnapshot: boolean
  /** Null: the primary. */
  #replica: Replica | null = null
  /** Those that have failed it. */
  #left: Replica[] = []
  readonly #notBefore: WalPosition | null
  /** Fails if the replica is not recent enough. */
  #check: Statement | null = null

  constructor (replicas: ReplicaChoice, { fallback, modes }: TransactionConfig, notBefore: WalPosition | null) {
    this.#replicas = replicas
    this.#keepsSnapshot = modes.isolation === 'repeatable read'
    this.#fallback = fallback
    this.#notBefore = notBefore
  }

  /** The first statement on this server, if there must be one. */
  check (): Statement | null {
    this.#check = this.#notBefore === null || this.#replica === null ? null : this.#replica.check(this.#notBefore)
    return this.#check
  }

  /** The pool of the replica, or null: the primary serves it. */
  get pool (): Pool | null {
    return this.#replica === null ? null : this.#replica.pool
  }

  /** Chooses a server. @returns an error if there is none */
  choose (): Error | null {
    this.#replica = this.#fallback && this.#left.length > 0
      ? null
      : this.#replicas.choose(this.#left, this.#notBefore, this.#keepsSnapshot)
    if (this.#replica !== null || this.#fallback) return null
    return pgScopeError('FST_PG_SCOPE_NO_REPLICA', 'No replica can serve this transaction now, and the primary must ' +
      'not (`fallback: false`). app.db.stats().replicas says why each one is not used.')
  }

  /** The pool of the replica has rejected it. @returns whether it must choose again */
  leaveRefused (error: Error): boolean {
    if (this.#replica === null || !isPgScopeError(error) || !unusable.includes(error.code)) return false
    this.#leave(true)
    return true
  }

  /** Its first batch has failed. @returns whether it must choose again */
  leaveFailed ({ error, lost, statement }: BatchFailure, statements: readonly Statement[]): boolean {
    if (this.#replica === null || ranOutOfTime(error)) return false
    const isTooOld = this.#check !== null && statements[statement] === this.#check
    if (!lost && !isTooOld && !mayBeOfStandby(error)) return false
    this.#leave(lost)
    return true
  }

  /** @param suspect whether the replica itself may be the cause */
  #leave (suspect: boolean): void {
    if (suspect) this.#replica!.suspect()
    this.#left.push(this.#replica!)
    this.#replica = null
  }
}

/** Where work with this configuration runs; null: on the primary. */
export function routeOf (
  { replicas, notBefore }: { replicas: ReplicaChoice | null, notBefore: WalPosition | null }, config: TransactionConfig
): ReplicaRoute | null {
  return replicas !== null && config.replicable ? new ReplicaRoute(replicas, config, notBefore) : null
}
