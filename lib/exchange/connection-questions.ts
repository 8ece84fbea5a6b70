import type { Connection } from '../pool/connection.ts'
import type { PreparedStatements } from '../postgres/prepared-statements.ts'
import { searchPathQuestion } from '../pgbouncer/detect.ts'
import { Statement } from './statement.ts'

/** Asks a connection whose process answers: behind a pooler it is not the one that the connection was given. */
class BackendQuestion extends Statement {
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
class SearchPathQuestion extends Statement {
  readonly #prepared: PreparedStatements
  #answer: unknown[] = []

  constructor (prepared: PreparedStatements) {
    super(searchPathQuestion)
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
export function searchPathQuestionFor ({ prepared }: Connection): Statement | null {
  return prepared?.asks === true ? new SearchPathQuestion(prepared) : null
}

/**
 * What a new connection is to be asked, once, or null. It stands under one Sync with what it travels with, or is waited for: a
 * client that goes away while it has answers coming outside of a transaction, and has read one of them, leaves the others
 * to the next client of PgBouncer 1.18.
 */
export function backendQuestionFor (connection: Connection): Statement | null {
  const { onBackendKnown: looked } = connection
  connection.onBackendKnown = null
  return looked === null ? null : new BackendQuestion(looked)
}
