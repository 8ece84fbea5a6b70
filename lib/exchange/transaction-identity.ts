import type { Connection } from '../pool/connection.ts'
import { type KnownLog, rememberLog } from '../postgres/known-log.ts'
import { Statement } from './statement.ts'

/**
 * The id of the transaction, null if it has written nothing; the time of the server; the isolation level; the position
 * in the log, null on a standby; and what the id belongs to: the system and its timeline, null on a standby. The names
 * are qualified, as an application may have functions of the same names.
 */
const question = `SELECT pg_catalog.pg_current_xact_id_if_assigned()::text,
pg_catalog.clock_timestamp()::text, pg_catalog.current_setting('transaction_isolation'),
CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_current_wal_insert_lsn()::text END,
(SELECT system_identifier::text FROM pg_catalog.pg_control_system()),
CASE WHEN NOT pg_catalog.pg_is_in_recovery()
THEN pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8) END`

/** The same where the log is known. */
const shortQuestion = `SELECT pg_catalog.pg_current_xact_id_if_assigned()::text,
pg_catalog.clock_timestamp()::text, pg_catalog.current_setting('transaction_isolation'),
pg_catalog.pg_current_wal_insert_lsn()::text`

/** What a server says about the transaction that runs on it. */
export interface Identity extends KnownLog {
  /** Null if the transaction has written nothing so far. */
  readonly id: string | null
  /** The time of the server, as text. */
  readonly time: string
  readonly isolation: string
  /** Where the log ended when the transaction had its id and had not committed; null on a standby. */
  readonly position: string | null
}

class IdentityQuestion extends Statement {
  declare text: string
  #connection: Connection | null = null
  readonly #answered: (identity: Identity) => void

  constructor (answered: (identity: Identity) => void) {
    super(question)
    this.automatic = true
    this.#answered = answered
  }

  /** It is to be sent over this connection. */
  askOver (connection: Connection): void {
    this.#connection = connection
    this.text = connection.log === null ? question : shortQuestion
  }

  override row ([id, time, isolation, position, system, timeline]: unknown[]): void {
    const connection = this.#connection!
    const log = this.text === shortQuestion ? connection.log! : rememberLog(connection, system, timeline)
    this.#answered({ id, system: log.system, timeline: log.timeline, time, isolation, position } as Identity)
  }
}

/**
 * Asks for the identity of a transaction, so that its outcome can be found out if COMMIT's answer is lost
 * (`resolveCommits`). The question travels with the first statement that writes, or with COMMIT: it costs no round
 * trip.
 */
export class TransactionIdentity {
  /** The last answer, or null. */
  known: Identity | null = null
  /** The question that travels with COMMIT is not answered. */
  isAsking = false
  /** The question that travels with an earlier statement, or null. */
  #question: IdentityQuestion | null = null
  /** Null until it is acquired. */
  #connection: Connection | null = null

  /** The transaction begins on this connection, perhaps after it began on another one in vain. */
  beginOn (connection: Connection): void {
    this.#connection = connection
    this.#question?.askOver(connection)
  }

  /** The question that must follow a caller's statement, or null. */
  after ({ writes }: Statement): Statement | null {
    if (!writes || this.#question !== null) return null
    this.#question = new IdentityQuestion((identity) => { this.known = identity })
    if (this.#connection !== null) this.#question.askOver(this.#connection)
    return this.#question
  }

  /** The question that must precede COMMIT, or null: the id is known, or other statements have written since. */
  beforeCommit (): Statement | null {
    if (this.known !== null && this.known.id !== null) return null
    this.isAsking = true
    const question = new IdentityQuestion((identity) => {
      this.known = identity
      this.isAsking = false
    })
    question.askOver(this.#connection!)
    return question
  }
}
