import type { Connection } from '../pool/connection.ts'
import { Statement } from './statement.ts'

/** Asks a connection whose process answers: behind a pooler it is not the one that the connection was given. */
class Look extends Statement {
  readonly #found: (backend: number) => void
  #backend = NaN

  constructor (found: (backend: number) => void) {
    super('SELECT pg_backend_pid()')
    this.#found = found
  }

  override row (fields: unknown[]): void {
    this.#backend = Number(fields[0])
  }

  override succeed (): void {
    this.#found(this.#backend)
  }
}

/**
 * What a new connection is to be asked, once, or null. It stands under one Sync with what it travels with, or is waited for: a
 * client that goes away while it has answers coming outside of a transaction, and has read one of them, leaves the others
 * to the next client of PgBouncer 1.18.
 */
export function lookAt (connection: Connection): Statement | null {
  const { looked } = connection
  connection.looked = null
  return looked === null ? null : new Look(looked)
}
