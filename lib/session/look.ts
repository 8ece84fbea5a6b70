import type { Connection } from '../pool/connection.ts'
import type { PreparedStatements } from '../pool/prepared-statements.ts'
import { namesQuestion } from '../postgres/pooler.ts'
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

/** Asks a connection whether names mean the same each time. */
class LookAtNames extends Statement {
  readonly #prepared: PreparedStatements
  #answer: unknown[] = []

  constructor (prepared: PreparedStatements) {
    super(namesQuestion)
    this.#prepared = prepared
  }

  override row (fields: unknown[]): void {
    this.#answer = fields
  }

  override succeed (): void {
    this.#prepared.learned(this.#answer[0] === 't', this.#answer[1] === 't')
  }
}

/** Where something would have been prepared if it were known; null mostly. */
export function lookAtNames ({ prepared }: Connection): Statement | null {
  return prepared?.asks === true ? new LookAtNames(prepared) : null
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
