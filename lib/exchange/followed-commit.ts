import type { Connection } from '../pool/connection.ts'
import type { BatchFailure } from './batch-failure.ts'
import type { Call } from './call.ts'
import { Statement } from './statement.ts'
import { traceSent } from './statement-trace.ts'
import { mayShareTransaction } from './trace-context.ts'
import { mergeSettings, settingStatement, type TransactionConfig } from './transaction-config.ts'
import type { TransactionHost } from './transaction-host.ts'
import { type Writer, WrittenPosition } from './written-position.ts'

/** A constraint that is checked at COMMIT is one of the caller's statement. */
class CommitOf extends Statement {
  readonly #call: Call

  constructor (call: Call) {
    super('COMMIT')
    this.#call = call
  }

  override attribute (error: unknown): void {
    this.#call.attribute(error)
  }
}

/**
 * The COMMIT of a statement that commits by itself, where replicas must know its position. Alone under its Sync the
 * statement would be committed by the Sync, and no question can follow that in the same batch: so it gets a BEGIN and a
 * COMMIT there, in the same round trip. A Sync of its own for the question is no way: PgBouncer 1.18 may give one of
 * several answers outside of a transaction to another client.
 */
export class FollowedCommit {
  readonly #written: WrittenPosition
  readonly #commit: Statement

  /** @param writer learns the position */
  constructor (call: Call, writer: Writer) {
    this.#commit = new CommitOf(call)
    this.#written = new WrittenPosition(writer)
  }

  /** The batch with the transaction around it. */
  around (statements: readonly Statement[], connection: Connection): Statement[] {
    const begin = new Statement('BEGIN')
    begin.automatic = true
    this.#commit.restart()
    // It is no longer the last one of its batch.
    if (statements.at(-1)!.trace !== null) traceSent(statements)
    return [begin, ...statements, this.#written.beforeCommit(), this.#commit, this.#written.afterCommit(connection)]
  }

  /** COMMIT was answered: a failure behind it changes nothing. */
  get isCommitted (): boolean {
    return this.#commit.tag === 'COMMIT'
  }

  /** Whether COMMIT may have run when the connection was lost. */
  mayHaveRun (statements: readonly Statement[], { begun }: BatchFailure): boolean {
    return begun > statements.indexOf(this.#commit)
  }
}

const noSettings = mergeSettings()

/**
 * Whether other statements travel with one that commits by itself. A text of several statements, which is one
 * transaction in any case, cannot share a Sync with them.
 */
export function addsStatements (
  { replicas }: TransactionHost, config: TransactionConfig, hasRequestSettings: boolean
): boolean {
  return hasRequestSettings || replicas?.followsWrites === true || settingStatement(config, noSettings) !== null
}

/** Null unless the position of the statement's commit must be known, and it may write and share a transaction. */
export function followedCommit (
  call: Call, { replicas }: TransactionHost, { losesNothing }: TransactionConfig, writer: (() => Writer) | null
): FollowedCommit | null {
  if (writer === null || replicas?.followsWrites !== true || losesNothing) return null
  // A function may write.
  const mayWrite = call.writes || call.traces !== null
  return mayWrite && mayShareTransaction(call) ? new FollowedCommit(call, writer()) : null
}
