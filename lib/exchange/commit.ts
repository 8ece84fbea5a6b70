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
 * @param pool where its connection comes from
 * @param ended the transaction has ended, and its connection is free. `failure` is why it had failed before, or null
 */
export function sendCommit (
  statements: UnansweredStatements, host: TransactionHost, pool: Pool, latency: CommitLatency,
  ended: (failure: Error | null) => void, done: (outcome: CommitOutcome) => void
): void {
  const { counters, outcomes } = host
  const pipeline = statements.pipeline!
  const { written, queue: { identity } } = statements
  const judged = (outcome: CommitOutcome): void => {
    if (outcome === 'committed') counters.committed++
    done(outcome)
  }
  let failed: Error | null = null
  const ask = (question: Statement | null): void => {
    if (question === null) return
    // Under a Sync of its own: COMMIT ends the transaction even if the question fails, for the session behind it.
    pipeline.send([question], 'statement', (failure) => { failed ??= (failure?.error ?? null) as Error | null })
  }
  if (identity !== null) ask(identity.beforeCommit())
  if (written !== null) ask(written.beforeCommit())
  const question = written === null ? null : written.afterCommit(pipeline.lease.connection)
  judgeCommit(pipeline, pool, latency, question, (outcome) => {
    ended(failed)
    if (!isUnknown(outcome)) return judged(outcome)
    // On a replica there was nothing to save, and everything was read.
    if (pool !== host.pool) return judged('committed')
    if (outcomes === null || identity === null) return judged(outcome)
    outcomes.resolve(identity, outcome.cause).then((error) => judged(error ?? 'committed'), judged)
  })
}

function isUnknown (outcome: CommitOutcome): outcome is PgScopeError {
  return isPgScopeError(outcome) && outcome.code === 'FST_PG_SCOPE_COMMIT_UNKNOWN'
}

function judgeCommit (
  pipeline: Pipeline, pool: Pool, latency: CommitLatency, question: Statement | null,
  done: (outcome: CommitOutcome) => void
): void {
  // The failure of the question changes nothing: COMMIT is judged by its tag.
  const commit = new Statement('COMMIT', [], question === null)
  sendEnd(pipeline, question === null ? [commit] : [commit, question], pool, latency, (failure) => {
    // After the tag COMMIT a lost connection changes nothing.
    if (commit.tag === 'COMMIT') done('committed')
    // PostgreSQL accepts COMMIT in a failed transaction and rolls back: only the tag shows it.
    else if (failure === null || commit.tag !== null) done('rolled back')
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
    sendEnd(pipeline, [new Statement('ROLLBACK', [], true)], pool, latency, resolve)
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
 * @param end COMMIT or ROLLBACK, and perhaps a question behind it
 * @param latency null, or the statement ends the transaction whatever its answer is, so another session may send its
 * first batch after it
 */
function sendEnd (
  pipeline: Pipeline, end: readonly Statement[], pool: Pool, latency: CommitLatency | null,
  done: (failure: BatchFailure | null) => void
): void {
  const { lease } = pipeline
  const { connection } = lease
  connection.commitPending = latency !== null
  let pendingCommit: PendingCommit | null = null
  pipeline.send(end, 'end', (failure) => {
    connection.commitPending = false
    if (pendingCommit !== null) pool.commitAnswered(pendingCommit)
    done(failure)
  })
  if (latency !== null) pendingCommit = pool.commitSent(lease, latency)
}
