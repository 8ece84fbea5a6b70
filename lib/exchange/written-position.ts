import type { Connection } from '../pool/connection.ts'
import { type KnownLog, rememberLog } from '../postgres/known-log.ts'
import { formatPosition, laterPosition } from '../postgres/wal-position.ts'
import { Statement } from './statement.ts'

/** Whether the transaction has written anything. */
const hasWritten = 'SELECT pg_catalog.txid_current_if_assigned() IS NOT NULL'

/**
 * Where the log of the primary ends, its system and its timeline. Not the position that is flushed already: with
 * synchronous_commit off it may lie before the commit.
 */
const position = `SELECT pg_catalog.pg_current_wal_insert_lsn()::text,
(SELECT system_identifier::text FROM pg_catalog.pg_control_system()),
pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8)`

/** The same where the log is known. */
const shortPosition = 'SELECT pg_catalog.pg_current_wal_insert_lsn()::text'

class Question extends Statement {
  readonly #answered: (fields: unknown[]) => void

  constructor (text: string, answered: (fields: unknown[]) => void) {
    super(text)
    this.automatic = true
    this.#answered = answered
  }

  override row (fields: unknown[]): void {
    this.#answered(fields)
  }
}

/** What learns where it has written. */
export interface Writer {
  /** The position behind its last COMMIT that has written anything, as text, or null. */
  writtenAt: string | null
}

/** Where a request has written: in the sessions of all its attempts, and by `app.db.query()`. */
export class RequestWriter implements Writer {
  #writtenAt: string | null = null

  get writtenAt (): string | null {
    return this.#writtenAt
  }

  set writtenAt (position: string | null) {
    this.#writtenAt = laterPosition(this.#writtenAt, position)
  }
}

/** Asks where a commit stands in the log, so that a replica can be asked whether it has replayed it. */
export class WrittenPosition {
  readonly #writer: Writer
  #hasWritten = false

  constructor (writer: Writer) {
    this.#writer = writer
  }

  /** The question that travels before COMMIT. */
  beforeCommit (): Statement {
    return new Question(hasWritten, ([answer]) => { this.#hasWritten = answer === 't' })
  }

  /** The question that travels behind COMMIT, in its batch, so that it is answered together with it. */
  afterCommit (connection: Connection): Statement {
    const known = connection.log
    return new Question(known === null ? position : shortPosition, ([lsn, system, timeline]) => {
      const log = known ?? rememberLog(connection, system, timeline)
      if (this.#hasWritten) this.#writer.writtenAt = written(lsn, log)
    })
  }
}

function written (lsn: unknown, { system, timeline }: KnownLog): string {
  return formatPosition({ lsn: lsn as string, system, timeline: parseInt(timeline!, 16) })
}
