import { isPgScopeError, type PgScopeError } from '../errors.ts'
import type { CommitLatency, PendingCommit } from '../pool/hand-over.ts'
import type { Pool } from '../pool/pool.ts'
import type { BatchFailure } from './batch-failure.ts'
import type { Pipeline } from './pipeline.ts'
import { Statement } from './statement.ts'
import { commitError, unknownOutcome } from './transaction-errors.ts'
import type { TransactionHost } from './transaction-host.ts'
import type { UnansweredStatements } from './unanswered-statements.ts'

/** How long ROLLBACK may take to be answered. Milliseconds. */
const rollbackTimeout = 5000

/** What the answer to COMMIT proves. 'rolled back': the transaction had failed. An error: why COMMIT failed. */
export type CommitOutcome = 'committed' | 'rolled back' | Error

/**
 * Sends COMMIT and judges its answer. If it is never answered, and the identity of the transaction is known, another
 * connection is asked for the outcome.
 *
 * @param ended the transaction has ended, and its connection is free. `failure` is why it had failed before, or null
 */
export function sendCommit (
  statements: UnansweredStatements, { pool, counters, outcomes }: TransactionHost, latency: CommitLatency,
  ended: (failure: Error | null) => void, done: (outcome: CommitOutcome) => void
): void {
  const pipeline = statements.pipeline!
  const { identity } = statements.queue
  const judged = (outcome: CommitOutcome): void => {
    if (outcome === 'committed') counters.committed++
    done(outcome)
  }
  let failed: Error | null = null
  const question = identity === null ? null : identity.beforeCommit()
  // Under a Sync of its own: COMMIT ends the transaction even if the question fails, for the session behind it.
  if (question !== null) {
    pipeline.send([question], 'statement', (failure) => { failed = (failure?.error ?? null) as Error | null })
  }
  judgeCommit(pipeline, pool, latency, (outcome) => {
    ended(failed)
    if (outcomes === null || identity === null || !isUnknown(outcome)) return judged(outcome)
    outcomes.resolve(identity, outcome.cause).then((error) => judged(error ?? 'committed'), judged)
  })
}

function isUnknown (outcome: CommitOutcome): outcome is PgScopeError {
  return isPgScopeError(outcome) && outcome.code === 'FST_PG_SCOPE_COMMIT_UNKNOWN'
}

function judgeCommit (
  pipeline: Pipeline, pool: Pool, latency: CommitLatency, done: (outcome: CommitOutcome) => void
): void {
  const commit = new Statement('COMMIT', [], true)
  sendEnd(pipeline, commit, pool, latency, (failure) => {
    // After the tag COMMIT a lost connection changes nothing.
    if (commit.tag === 'COMMIT') done('committed')
    // PostgreSQL accepts COMMIT in a failed transaction and rolls back: only the tag shows it.
    else if (failure === null) done('rolled back')
    else done(failure.lost ? unknownOutcome(failure.error) : commitError(failure.error))
  })
}

/**
 * Sends ROLLBACK. Resolves when it is answered, or when the connection is lost, which rolls back too.
 *
 * @param latency null: the connection must not be handed over, because other answers may still arrive after a failure
 */
export async function sendRollback (pipeline: Pipeline, pool: Pool, latency: CommitLatency | null): Promise<void> {
  const { connection } = pipeline.lease
  const timer = setTimeout(() => connection.destroy(), rollbackTimeout)
  await new Promise<unknown>((resolve) => {
    sendEnd(pipeline, new Statement('ROLLBACK', [], true), pool, latency, resolve)
  })
  clearTimeout(timer)
}

/** Sends ROLLBACK TO SAVEPOINT, and ends the savepoint. */
export function sendRollbackTo (
  pipeline: Pipeline, savepoint: string, done: (failure: BatchFailure | null) => void
): void {
  pipeline.send([
    new Statement(`ROLLBACK TO SAVEPOINT ${savepoint}`),
    new Statement(`RELEASE SAVEPOINT ${savepoint}`)
  ], 'statement', done)
}

/**
 * @param latency null, or the statement ends the transaction whatever its answer is, so another session may send its
 * first batch after it
 */
function sendEnd (
  pipeline: Pipeline, end: Statement, pool: Pool, latency: CommitLatency | null,
  done: (failure: BatchFailure | null) => void
): void {
  const { lease } = pipeline
  const { connection } = lease
  connection.commitPending = latency !== null
  let pendingCommit: PendingCommit | null = null
  pipeline.send([end], 'end', (failure) => {
    connection.commitPending = false
    if (pendingCommit !== null) pool.commitAnswered(pendingCommit)
    done(failure)
  })
  if (latency !== null) pendingCommit = pool.commitSent(lease, latency)
}
