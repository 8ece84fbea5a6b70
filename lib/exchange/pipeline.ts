import type { ConnectionUser } from '../pool/connection.ts'
import type { Lease } from '../pool/lease.ts'
import { batchTimeout, type AnswerTimeout, watchForAnswer } from './answer-timeout.ts'
import { send } from './batch.ts'
import type { BatchFailure } from './batch-failure.ts'
import { abandon, type Running } from './cancellation.ts'
import type { Statement } from './statement.ts'
import type { StatementQueue } from './statement-queue.ts'
import type { StatementSignal } from './statement-signal.ts'
import { traceSent } from './statement-trace.ts'

/** The transaction or single statement that a pipeline belongs to. */
export interface PipelineOwner {
  batchAnswered (statements: readonly Statement[], failure: BatchFailure | null): void
  /** The connection ended while it owed no answer. */
  connectionLost (error: unknown): void
  /** Resolves when every statement that was called is answered. */
  settled (): Promise<void>
  /** A batch was answered: wakes settled(). */
  changed (): void
  /** A CancelRequest is being sent. */
  canceled (): void
}

/**
 * The batches that were sent over one lease and are not answered. It lasts as long as the lease; after release(), only
 * the failures of unanswered batches still arrive.
 *
 *     StatementQueue ─► flush() ─► write() ─► sent, unanswered ─► owner.batchAnswered()
 *
 * A batch that must not share the pipeline (COPY, a statement with a signal) holds it: nothing is sent until it is
 * answered.
 */
export class Pipeline implements Running, ConnectionUser {
  readonly lease: Lease
  isReleased = false
  /** The number of batches sent and not answered. */
  unanswered = 0
  readonly #owner: PipelineOwner
  readonly #answerTimeout: AnswerTimeout
  /** How many unanswered batches no caller waits for. */
  #unawaited = 0
  /** The last statement of the batch that holds the pipeline, or null. */
  #holding: Statement | null = null

  constructor (lease: Lease, owner: PipelineOwner, answerTimeout: AnswerTimeout) {
    this.lease = lease.usedBy(this)
    this.#owner = owner
    this.#answerTimeout = answerTimeout
  }

  get isRunning (): boolean {
    return this.unanswered > 0
  }

  /** No caller waits for an answer. An internal statement such as CLOSE may be unanswered: COMMIT can follow it. */
  get nothingAwaited (): boolean {
    return this.unanswered === this.#unawaited
  }

  /** Whether the statement with this signal is sent and unanswered. It is then the only one that a caller waits for. */
  runs (signal: StatementSignal): boolean {
    return this.#holding?.signal === signal
  }

  /** The statement with this signal, to be cancelled. */
  running (signal: StatementSignal): Running {
    const pipeline = this
    return {
      lease: pipeline.lease,
      get isRunning () { return pipeline.runs(signal) },
      settled: () => pipeline.settled(),
      canceled: () => pipeline.canceled()
    }
  }

  /** Sends queued statements, without waiting for answers where that is safe. */
  flush (queue: StatementQueue): void {
    while (this.#holding === null && !(this.isRunning && this.lease.connection.serial)) {
      const statements = queue.takeBatch(this.isRunning, this.lease.connection)
      if (statements === null) return
      this.write(statements)
    }
  }

  /** Writes a batch, whose answer goes to the owner. */
  write (statements: readonly Statement[]): void {
    const unawaited = statements.some(({ describes }) => describes) ? 0 : 1
    this.#unawaited += unawaited
    const last = statements.at(-1)!
    const holds = last.holdsPipeline
    if (holds) this.#holding = last
    if (last.trace !== null) traceSent(statements)
    this.send(statements, 'statement', (failure) => {
      this.#unawaited -= unawaited
      if (holds) this.#holding = null
      this.#owner.batchAnswered(statements, failure)
    })
  }

  /** Writes a batch. @param kind whether it ends the transaction */
  send (
    statements: readonly Statement[], kind: 'statement' | 'end', done: (failure: BatchFailure | null) => void
  ): void {
    this.unanswered++
    this.lease.sent()
    const limit = batchTimeout(this.#answerTimeout, statements, this.lease.connection.serial)
    const answered = watchForAnswer(this, limit, kind)
    send(this.lease, statements, (_batch, failure) => {
      answered()
      this.unanswered--
      done(failure)
      this.#owner.changed()
    })
  }

  connectionLost (error: unknown): void {
    // pg reports the loss to an unanswered batch, which reports it to the owner.
    if (!this.isRunning) this.#owner.connectionLost(error)
  }

  settled (): Promise<void> {
    return this.#owner.settled()
  }

  canceled (): void {
    this.#owner.canceled()
  }

  /** Ends the lease. @param destroy whether the connection must be closed: it owes answers, or is lost */
  release (destroy = this.isRunning): void {
    if (this.isReleased) return
    this.isReleased = true
    if (destroy) abandon(this.lease)
    else this.lease.release()
  }
}
