import type { ConnectionUser } from '../pool/connection.ts'
import type { Lease } from '../pool/lease.ts'
import { send } from './batch.ts'
import type { BatchFailure } from './batch-failure.ts'
import { abandon, type Running } from './cancellation.ts'
import { batchTimeout, type AnswerTimeout, watchForAnswer } from './answer-timeout.ts'
import type { Statement } from './statement.ts'
import type { StatementSignal } from './statement-signal.ts'

/** The transaction that a pipeline belongs to. */
export interface PipelineOwner {
  batchAnswered (statements: readonly Statement[], failure: BatchFailure | null): void
  /** The connection ended while it owed no answer. */
  connectionLost (error: unknown): void
  canceled (): void
  /** The next statement in the queue must not be sent, and everything before it is answered. */
  rejectedCall (error: unknown): void
}

/** Puts SET TRANSACTION between BEGIN and the settings, because PostgreSQL accepts it only before every query. */
function behindBegin ([begin, ...settings]: readonly Statement[], called: readonly Statement[]): Statement[] {
  const other = called.findIndex(({ goesFirst }) => !goesFirst)
  const end = other === -1 ? called.length : other
  return [begin!, ...called.slice(0, end), ...settings, ...called.slice(end)]
}

/**
 * The statements of a transaction on their way: queue (called, not sent) → batches sent, not answered →
 * batchAnswered().
 *
 *     put() ─► queue ─► begin(), flush() ─► write() ─► sent, unanswered ─► owner.batchAnswered()
 *
 * A batch that must not share the pipeline (COPY, a statement with a signal) holds it: nothing is sent until it is
 * answered.
 */
export class Pipeline implements Running, ConnectionUser {
  lease: Lease | null = null
  /** The number of batches sent and not answered. */
  unanswered = 0
  readonly #owner: PipelineOwner
  readonly #answerTimeout: AnswerTimeout
  /**
   * Called and not sent: waiting for the connection, or for the answer to BEGIN or to the statement that holds the
   * pipeline.
   */
  #queue: Statement[] = []
  /** How many unanswered batches no caller waits for. */
  #unawaited = 0
  /** The last statement of the batch that holds the pipeline, or null. */
  #holding: Statement | null = null
  /** Allocated lazily. */
  #watchers: (() => void)[] | null = null

  constructor (owner: PipelineOwner, answerTimeout: AnswerTimeout) {
    this.#owner = owner
    this.#answerTimeout = answerTimeout
  }

  /** No statement is queued or unanswered. */
  get isIdle (): boolean {
    return this.unanswered === 0 && this.#queue.length === 0
  }

  /** No caller waits for an answer. An internal statement such as CLOSE may be unanswered: COMMIT can follow it. */
  get nothingAwaited (): boolean {
    return this.unanswered === this.#unawaited && this.#queue.length === 0
  }

  /** Resolves when every statement that was called is answered. */
  async settled (): Promise<void> {
    while (!this.isIdle) await new Promise<void>((resolve) => { (this.#watchers ??= []).push(resolve) })
  }

  /** Wakes settled(). */
  changed (): void {
    const watchers = this.#watchers
    if (watchers === null) return
    this.#watchers = null
    for (const watcher of watchers) watcher()
  }

  get queued (): readonly Statement[] {
    return this.#queue
  }

  put (statements: readonly Statement[]): void {
    for (const statement of statements) this.#queue.push(statement)
  }

  /** Returns statements to the front of the queue, to be sent as if for the first time. */
  putBack (statements: readonly Statement[]): void {
    this.#queue = [...statements, ...this.#queue]
    for (const statement of this.#queue) statement.restart()
  }

  /** Empties the queue. */
  takeQueued (): Statement[] {
    return this.#queue.splice(0)
  }

  /** Writes the first batch: the internal statements, BEGIN first, and as much of the queue as may share their Sync. */
  begin (lease: Lease, internal: readonly Statement[]): void {
    this.lease = lease.usedBy(this)
    const called = this.#queue.splice(0, this.#endOfBatch(0))
    this.write(called[0]?.goesFirst === true ? behindBegin(internal, called) : [...internal, ...called])
  }

  /** Whether the statement with this signal is sent and unanswered. It is then the only one that a caller waits for. */
  runs (signal: StatementSignal): boolean {
    return this.#holding?.signal === signal
  }

  /** Whether the first queued statement of a caller has this signal. */
  isFirst (signal: StatementSignal): boolean {
    return this.#queue.find(({ describes, rejection }) => describes || rejection !== null)?.signal === signal
  }

  /** Sends queued statements, without waiting for answers where that is safe. */
  flush (): void {
    const queue = this.#queue
    let written = 0
    while (written < queue.length && this.#holding === null && queue[written]!.rejection === null) {
      const end = Math.max(written + 1, this.#endOfBatch(written))
      // A CancelRequest for it must not cancel the statements before it.
      if (this.unanswered > 0 && queue[end - 1]!.signal !== null) break
      this.write(end === queue.length && written === 0 ? queue : queue.slice(written, end))
      written = end
    }
    if (written > 0) this.#queue = written === queue.length ? [] : queue.slice(written)
    const rejection = this.#queue[0]?.rejection ?? null
    if (rejection !== null && this.unanswered === 0) this.#owner.rejectedCall(rejection)
  }

  /**
   * The end of the range of queued statements, starting at `start`, that may share a Sync with the statements before
   * them.
   */
  #endOfBatch (start: number): number {
    let called: Statement | null = null
    for (let i = start; i < this.#queue.length; i++) {
      const statement = this.#queue[i]!
      if (statement.simple || statement.rejection !== null) return i
      // A CancelRequest must not cancel another call. Only a stream has several statements with one signal.
      if (called !== null && statement.signal !== called.signal) return i
      if (statement.isCopy) return i + 1
      if (statement.describes) called ??= statement
    }
    return this.#queue.length
  }

  write (statements: readonly Statement[]): void {
    const unawaited = statements.some(({ describes }) => describes) ? 0 : 1
    this.#unawaited += unawaited
    const last = statements.at(-1)!
    const holds = last.holdsPipeline
    if (holds) this.#holding = last
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
    const answered = watchForAnswer(this, batchTimeout(this.#answerTimeout, statements), kind)
    send(this.lease!, statements, (_batch, failure) => {
      answered()
      this.unanswered--
      done(failure)
      this.changed()
    })
  }

  connectionLost (error: unknown): void {
    // pg reports the loss to an unanswered batch, which reports it to the owner.
    if (this.unanswered === 0) this.#owner.connectionLost(error)
  }

  canceled (): void {
    this.#owner.canceled()
  }

  release (destroy = this.unanswered > 0): void {
    const { lease } = this
    this.lease = null
    if (lease === null) return
    if (destroy) abandon(lease)
    else lease.release()
  }
}
