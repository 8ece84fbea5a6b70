import { pgScopeError } from '../errors.ts'
import type { Connection, ConnectionUser } from './connection.ts'

/** One checked-out connection: returned once, and used by nobody after that. */
export class Lease {
  /** Whether the connection, or the one behind it in a pooler, was kept for this lease, and not opened for it, so that it may have died unnoticed. */
  readonly reused: boolean
  readonly #connection: Connection
  readonly #giveBack: (connection: Connection, keep: boolean) => void
  #returned = false

  constructor (connection: Connection, giveBack: (connection: Connection, keep: boolean) => void) {
    this.#connection = connection
    this.#giveBack = giveBack
    this.reused = connection.kept || connection.pooled
  }

  get connection (): Connection {
    if (this.#returned) throw pgScopeError('FST_PG_SCOPE_SESSION_STATE', 'A connection was used after it had gone back to the pool. This is a defect of fastify-pg-scope: please report it.')
    return this.#connection
  }

  usedBy (user: ConnectionUser): this {
    this.connection.user = user
    return this
  }

  /** Gives the connection back once every batch is answered: kept when it is clean, destroyed otherwise. Only the first call counts. */
  release (): void {
    this.#return(this.#connection.clean)
  }

  /** Gives the connection up: it is ended, whatever its state. Only the first call counts. */
  destroy (): void {
    this.#return(false)
  }

  #return (keep: boolean): void {
    if (this.#returned) return
    this.#returned = true
    this.#connection.user = null
    this.#giveBack(this.#connection, keep)
  }
}
