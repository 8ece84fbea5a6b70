import { pgScopeError } from '../errors.ts'
import type { ArraySetMember } from '../array-set.ts'
import type { Connection, ConnectionUser } from './connection.ts'
import type { ConnectionOwner } from './work-context.ts'

/** Where a lease goes when it ends. */
export interface LeaseKeeper {
  /** The connection is the pool's again: to be kept, or to be ended. */
  returned (lease: Lease, connection: Connection, keep: boolean): void
  /** The connection goes to somebody else although an answer is still to come. */
  handedOver (lease: Lease): void
}

/** One checked-out connection: returned once, and used by nobody after that. */
export class Lease implements ArraySetMember {
  /** Whether the connection, or the one behind it in a pooler, was kept for this lease, and not opened for it, so that it may have died unnoticed. */
  readonly reused: boolean
  readonly owner: ConnectionOwner
  /** Method and route, for reports. */
  readonly label: string | undefined
  arraySetIndex = -1
  readonly #connection: Connection
  readonly #keeper: LeaseKeeper
  #returned = false

  constructor (connection: Connection, holder: ConnectionOwner, label: string | undefined, keeper: LeaseKeeper) {
    this.#connection = connection
    this.#keeper = keeper
    this.owner = holder
    this.label = label
    this.reused = connection.reused || connection.pooled
  }

  get connection (): Connection {
    if (this.#returned) throw pgScopeError('FST_PG_SCOPE_SESSION_STATE', 'A connection was used after it had gone back to the pool. This is a defect of fastify-pg-scope: please report it.')
    return this.#connection
  }

  /** It has ended: the connection may be somebody else's. */
  get isReturned (): boolean {
    return this.#returned
  }

  usedBy (user: ConnectionUser): this {
    this.connection.user = user
    return this
  }

  /** Somebody else may write behind what is under way. */
  get sharable (): boolean {
    const { sharable, expired, lost, canceling, leftovers } = this.#connection
    return sharable && !this.#returned && !expired && lost === null && !canceling && leftovers?.any !== true
  }

  /** Ends it as the connection goes on to somebody else, who may write at once. What is under way is answered to whoever sent it. */
  handOver (): Connection {
    const { connection } = this
    this.#returned = true
    connection.user = null
    this.#keeper.handedOver(this)
    return connection
  }

  /**
   * Gives the connection back once every batch is answered: kept when it is clean, destroyed otherwise. The pool has it when no
   * CancelRequest is on its way any more. Only the first call counts.
   */
  release (): void {
    if (this.#returned) return
    const connection = this.#connection
    this.#end()
    connection.whenNotCanceling(() => this.#keeper.returned(this, connection, connection.reusable))
  }

  /** Gives the connection up: it is ended, whatever its state. Only the first call counts. */
  destroy (): void {
    if (this.#returned) return
    this.#end()
    this.#keeper.returned(this, this.#connection, false)
  }

  #end (): void {
    this.#returned = true
    this.#connection.user = null
  }
}
