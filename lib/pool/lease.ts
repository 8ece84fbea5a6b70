import { pgScopeError } from '../errors.ts'
import type { ArraySetMember } from '../array-set.ts'
import type { EngineIdentity, LeaseEvent } from '../../types/telemetry.ts'
import type { Operation } from '../telemetry/operation.ts'
import { traceLease } from './lease-trace.ts'
import type { Connection, ConnectionUser } from './connection.ts'
import type { Counters } from './counters.ts'
import type { ConnectionOwner } from './work-context.ts'
import type { RequestLabel } from '../telemetry/request-label.ts'

/** The pool, as its leases see it. */
export interface LeaseKeeper {
  /** For telemetry. */
  readonly engineIdentity: EngineIdentity
  readonly counters: Counters
  /** The lease has ended and the connection is the pool's again. @param keep whether another session may use it */
  returned (lease: Lease, connection: Connection, keep: boolean): void
  /** The lease has ended and its connection passes to the next session, although an answer is pending. */
  handedOver (lease: Lease): void
}

/**
 * The right to use one connection. It ends once, by release(), destroy() or handOver(); after that `connection`
 * throws. Pool creates it; the session, statement or lease(fn) that it was granted to ends it.
 */
export class Lease implements ArraySetMember {
  /**
   * The connection, or the server connection behind a pooler, was open before this lease, so it may have died
   * unnoticed.
   */
  readonly reused: boolean
  readonly owner: ConnectionOwner
  /** Method and route, for reports. */
  readonly label: RequestLabel | undefined
  arraySetIndex = -1
  readonly #connection: Connection
  readonly #keeper: LeaseKeeper
  readonly #trace: Operation<LeaseEvent> | null
  #returned = false

  constructor (connection: Connection, owner: ConnectionOwner, label: RequestLabel | undefined, keeper: LeaseKeeper) {
    this.#connection = connection
    this.#keeper = keeper
    this.owner = owner
    this.label = label
    this.reused = connection.reused || connection.pooled
    this.#trace = traceLease(keeper.engineIdentity, label)
  }

  get connection (): Connection {
    if (this.#returned) {
      throw pgScopeError('FST_PG_SCOPE_SESSION_STATE', 'A connection was used after its return to the pool. ' +
        'This is a defect of fastify-pg-scope: please report it.')
    }
    return this.#connection
  }

  /** The lease has ended, so another session may use the connection. */
  get isReturned (): boolean {
    return this.#returned
  }

  /** A batch is sent. */
  sent (): void {
    this.#keeper.counters.roundTrips++
  }

  usedBy (user: ConnectionUser): this {
    this.connection.user = user
    return this
  }

  /** The next session may send statements while answers to this one are pending. */
  get sharable (): boolean {
    const { sharable, expired, lost, canceling, mustBeReset } = this.#connection
    return sharable && !this.#returned && !expired && lost === null && !canceling && !mustBeReset
  }

  /**
   * Ends the lease and passes its connection to the next session, which may send at once. Pending answers go to this
   * session.
   */
  handOver (): Connection {
    const { connection } = this
    this.#end()
    this.#keeper.handedOver(this)
    return connection
  }

  /**
   * Returns the connection after every batch is answered: it is kept if it is clean and closed otherwise. The pool
   * gets it when no CancelRequest for it is pending. Only the first call has an effect.
   */
  release (): void {
    if (this.#returned) return
    const connection = this.#connection
    this.#end()
    connection.whenNotCanceling(() => this.#keeper.returned(this, connection, connection.reusable))
  }

  /** Returns the connection to be closed, whatever its state. Only the first call has an effect. */
  destroy (): void {
    if (this.#returned) return
    this.#end()
    this.#keeper.returned(this, this.#connection, false)
  }

  #end (): void {
    this.#returned = true
    this.#trace?.succeed()
    this.#connection.user = null
  }
}
