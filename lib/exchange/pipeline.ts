import type { ConnectionUser } from '../pool/connection.ts'
import type { Lease } from '../pool/lease.ts'
import { type BatchFailure, send } from './batch.ts'
import { abandon, type Running } from './cancellation.ts'
import { batchTimeout, type AnswerTimeout, watchForAnswer } from './answer-timeout.ts'
import type { Statement } from './statement.ts'
import type { StatementSignal } from './statement-signal.ts'

/** Whose statements they are. */
export interface PipelineOwner {
  batchAnswered (statements: readonly Statement[], failure: BatchFailure | null): void
  /** The connection ended while it owed no answer. */
  connectionLost (error: unknown): void
  canceled (): void
  /** The next in the queue is an InvalidCall, and everything before it is answered. */
  cameToInvalid (error: unknown): void
}

/** SET TRANSACTION, which PostgreSQL takes only ahead of every query, goes in front of the settings. */
function behindBegin ([begin, ...ours]: readonly Statement[], called: readonly Statement[]): Statement[] {
  const other = called.findIndex(({ goesFirst }) => !goesFirst)
  const end = other === -1 ? called.length : other
  return [begin!, ...called.slice(0, end), ...ours, ...called.slice(end)]
}

/** What a transaction has called and not written yet, and what it has written that is not answered yet. */
export class Pipeline implements Running, ConnectionUser {
  lease: Lease | null = null
  /** Batches written, and not yet answered. */
  unanswered = 0
  readonly #owner: PipelineOwner
  readonly #answerTimeout: AnswerTimeout
  /** Called, and not yet written: the connection, or the answer to BEGIN or a COPY, is being waited for. */
  #queue: Statement[] = []
  /** Those of the unanswered batches that nobody waits for. */
  #silent = 0
  /** With what the last batch ends: nothing may be sent behind it before it is answered. */
  #holding: Statement | null = null
  /** Mostly nobody waits. */
  #watchers: (() => void)[] | null = null

  constructor (owner: PipelineOwner, answerTimeout: AnswerTimeout) {
    this.#owner = owner
    this.#answerTimeout = answerTimeout
  }

  /** Nothing is waiting or under way. */
  get isIdle (): boolean {
    return this.unanswered === 0 && this.#queue.length === 0
  }

  /** Nobody waits for an answer: what is under way is ours, a CLOSE, and COMMIT can go behind it. */
  get nothingAwaited (): boolean {
    return this.unanswered === this.#silent && this.#queue.length === 0
  }

  /** Resolves when every statement that was called is answered. */
  async settled (): Promise<void> {
    while (!this.isIdle) await new Promise<void>((resolve) => { (this.#watchers ??= []).push(resolve) })
  }

  changed (): void {
    const watchers = this.#watchers
    if (watchers === null) return
    this.#watchers = null
    for (const watcher of watchers) watcher()
  }

  /** Called, and not yet written. */
  get waiting (): readonly Statement[] {
    return this.#queue
  }

  put (statements: readonly Statement[]): void {
    for (const statement of statements) this.#queue.push(statement)
  }

  /** In front of what waits: all of it is sent as if for the first time. */
  putBack (statements: readonly Statement[]): void {
    this.#queue = [...statements, ...this.#queue]
    for (const statement of this.#queue) statement.restart()
  }

  /** All that waits, and does so no longer. */
  takeBack (): Statement[] {
    return this.#queue.splice(0)
  }

  /** Writes the first batch: what goes ahead, BEGIN first, and as much of the queue as may go with it. */
  begin (lease: Lease, ahead: readonly Statement[]): void {
    this.lease = lease.usedBy(this)
    const called = this.#queue.splice(0, this.#together(0))
    this.write(called[0]?.goesFirst === true ? behindBegin(ahead, called) : [...ahead, ...called])
  }

  /** Whether a statement with this signal is under way: nothing else that a caller waits for is. */
  runs (signal: StatementSignal): boolean {
    return this.#holding?.signal === signal
  }

  /** Whether the first that a caller waits for has this signal. */
  isFirst (signal: StatementSignal): boolean {
    return this.#queue.find(({ describes, invalid }) => describes || invalid !== null)?.signal === signal
  }

  /** Writes what waits, without waiting for answers where that is safe. */
  flush (): void {
    const queue = this.#queue
    let written = 0
    while (written < queue.length && this.#holding === null && queue[written]!.invalid === null) {
      const end = Math.max(written + 1, this.#together(written))
      // A CancelRequest for it must not hit what is in front of it.
      if (this.unanswered > 0 && queue[end - 1]!.signal !== null) break
      this.write(end === queue.length && written === 0 ? queue : queue.slice(written, end))
      written = end
    }
    if (written > 0) this.#queue = written === queue.length ? [] : queue.slice(written)
    const invalid = this.#queue[0]?.invalid ?? null
    if (invalid !== null && this.unanswered === 0) this.#owner.cameToInvalid(invalid)
  }

  /** The end of those in the queue, from `start` on, that may share a Sync with what goes ahead of them. */
  #together (start: number): number {
    let called: Statement | null = null
    for (let i = start; i < this.#queue.length; i++) {
      const statement = this.#queue[i]!
      if (statement.simple || statement.invalid !== null) return i
      // A CancelRequest must hit no other call. Only a stream has several statements of one signal.
      if (called !== null && statement.signal !== called.signal) return i
      if (statement.isCopy) return i + 1
      if (statement.describes) called ??= statement
    }
    return this.#queue.length
  }

  write (statements: readonly Statement[]): void {
    const silent = statements.some(({ describes }) => describes) ? 0 : 1
    this.#silent += silent
    const last = statements.at(-1)!
    const holds = last.holdsPipeline
    if (holds) this.#holding = last
    this.send(statements, 'statement', (failure) => {
      this.#silent -= silent
      if (holds) this.#holding = null
      this.#owner.batchAnswered(statements, failure)
    })
  }

  /** Writes a batch. @param kind whether it ends the transaction */
  send (statements: readonly Statement[], kind: 'statement' | 'end', done: (failure: BatchFailure | null) => void): void {
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
    // With a batch under way pg tells that batch, and the batch tells us.
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
