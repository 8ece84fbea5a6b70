import { Changes } from '../changes.ts'
import type { Lease } from '../pool/lease.ts'
import type { AnswerTimeout } from './answer-timeout.ts'
import { Pipeline, type PipelineOwner } from './pipeline.ts'
import type { Statement } from './statement.ts'
import { StatementQueue } from './statement-queue.ts'
import type { TransactionConfig } from './transaction-config.ts'
import type { TransactionHost } from './transaction-host.ts'
import { TransactionIdentity } from './transaction-identity.ts'
import { type Writer, WrittenPosition } from './written-position.ts'

/** The statements of a transaction that were called and are not answered: queued, or sent over the pipeline. */
export class UnansweredStatements {
  readonly queue = new StatementQueue()
  /** Null until a connection is acquired. */
  pipeline: Pipeline | null = null
  /** Asks where COMMIT stands in the log; null where no replica needs to know. */
  written: WrittenPosition | null = null
  readonly #changes = new Changes()

  /** Sets what is asked about the transaction. */
  follow ({ outcomes, replicas }: TransactionHost, { losesNothing }: TransactionConfig, owner: Writer): void {
    if (losesNothing) return
    if (outcomes !== null) this.queue.identity = new TransactionIdentity()
    if (replicas?.followsWrites === true) this.written = new WrittenPosition(owner)
  }

  /** A connection was acquired. */
  sendOver (lease: Lease, owner: PipelineOwner, answerTimeout: AnswerTimeout): Pipeline {
    this.pipeline = new Pipeline(lease, owner, answerTimeout)
    this.queue.identity?.beginOn(lease.connection)
    return this.pipeline
  }

  /** The transaction begins again on another connection. @returns the pipeline of the one that it leaves */
  leaveConnection (): Pipeline {
    const pipeline = this.pipeline!
    this.pipeline = null
    return pipeline
  }

  /** The pipeline while it has a connection. */
  get connected (): Pipeline | null {
    return this.pipeline?.isReleased === false ? this.pipeline : null
  }

  /** No statement is queued or sent. */
  get isEmpty (): boolean {
    return this.queue.isEmpty && this.pipeline?.isRunning !== true
  }

  /** No caller waits for an answer. An internal statement such as CLOSE may be unanswered: COMMIT can follow it. */
  get nothingAwaited (): boolean {
    return this.queue.isEmpty && this.pipeline?.nothingAwaited !== false
  }

  /** Sends what may be sent. @returns why the next statement must not be sent although it is its turn, or null */
  flush (): unknown {
    this.pipeline?.flush(this.queue)
    return this.pipeline?.isRunning === false ? this.queue.rejection : null
  }

  /** Empties the queue. */
  takeQueued (): Statement[] {
    return this.queue.takeAll()
  }

  failQueued (error: Error): void {
    for (const statement of this.takeQueued()) statement.fail(error)
    this.changed()
  }

  /** Resolves when every statement is answered. */
  async settled (): Promise<void> {
    while (!this.isEmpty) await this.#changes.next()
  }

  /** A statement was answered, or has left the queue: wakes settled(). */
  changed (): void {
    this.#changes.announce()
  }
}
