import type { Connection } from '../pool/connection.ts'
import type { PreparedStatements } from '../postgres/prepared-statements.ts'
import { searchPathQuestion } from '../pgbouncer/detect.ts'
import { Statement } from './statement.ts'

/** Asks for the PID of the server process: behind a pooler it differs from the PID that was given at login. */
class BackendQuestion extends Statement {
  readonly #connection: Connection
  #backend = NaN

  constructor (connection: Connection) {
    super('SELECT pg_backend_pid()')
    this.#connection = connection
  }

  override row (fields: unknown[]): void {
    this.#backend = Number(fields[0])
  }

  override succeed (): void {
    const { onBackendKnown } = this.#connection
    this.#connection.onBackendKnown = null
    onBackendKnown?.(this.#backend)
  }
}

/**
 * Asks whether an unqualified name always refers to the same object on a connection: a precondition of automatic
 * preparing.
 */
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

/**
 * The question whether statements may be prepared on this connection, if one would have been prepared; usually null.
 */
export function searchPathQuestionFor ({ prepared }: Connection): Statement | null {
  return prepared?.asks === true ? new SearchPathQuestion(prepared) : null
}

/**
 * The question for a new connection, asked until it is answered, or null. It shares a Sync with the statements that it
 * travels with, or is answered before they are sent: if a client of PgBouncer 1.18 disconnects while several answers
 * outside a transaction are due and one of them has been read, the next client receives the others.
 */
export function backendQuestionFor (connection: Connection): Statement | null {
  return connection.onBackendKnown === null ? null : new BackendQuestion(connection)
}
