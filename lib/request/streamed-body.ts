import type { Readable } from 'node:stream'
import type { FastifyReply } from 'fastify'
import { asError } from '../exchange/transaction-errors.ts'
import type { Outcome } from '../session/managed-session.ts'
import type { Answer, Done } from './answer.ts'
import { type BodySource, HeldResponse } from './held-response.ts'
import type { RequestWork } from './request-work.ts'
import { StreamTimeout } from './stream-timeout.ts'

/** The streamed body of a response that may use the session: its end waits for the end of the session. */
export class StreamedBody implements BodySource {
  /** The outcome when it ends; null if it is decided at that time. */
  readonly outcome: Outcome | null
  readonly #work: RequestWork
  readonly #answer: Answer
  readonly #reply: FastifyReply
  readonly #payload: unknown
  readonly #response: HeldResponse
  readonly #timeout: StreamTimeout

  constructor (work: RequestWork, answer: Answer, reply: FastifyReply, payload: unknown, outcome: Outcome | null) {
    this.outcome = outcome
    this.#work = work
    this.#answer = answer
    this.#reply = reply
    this.#payload = payload
    this.#response = new HeldResponse(reply.raw, this)
    this.#timeout = new StreamTimeout(work.session, work.config.streamTimeout)
  }

  /** It no longer waits for the session. */
  release (): void {
    this.#timeout.clear()
    this.#response.release()
  }

  /** closeTimeout has elapsed. */
  forced (error: Error): void {
    const { session } = this.#work
    // Without an open transaction it can be completed.
    if (session.state === 'closed' && !session.streaming) this.#response.release()
    else this.#response.fail(error)
  }

  get open (): boolean {
    const { state } = this.#work.session
    return state === 'opening' || state === 'active' || state === 'failed'
  }

  async finish (): Promise<void> {
    const work = this.#work
    const outcome = this.outcome ?? await work.outcome(this.#reply)
    const before = work.state
    // The client disconnected while commitIf decided.
    if (before === 'given up' || before === 'left behind') return
    work.state = 'committing'
    try {
      // A failed session rejects COMMIT with its failure.
      await work.session.end(outcome === 'rollback' ? 'rollback' : 'commit')
      work.state = 'committed'
    } catch (error) {
      work.state = before === 'committed' ? before : 'given up'
      throw asError(error)
    }
  }

  replace (error: Error): void {
    const reply = this.#reply
    const done: Done = (error) => { reply.send(error) }
    // Fastify destroys it once the error is sent.
    ;(this.#payload as Partial<Readable> | null)?.unpipe?.(reply.raw)
    if (this.#work.state === 'committed') return this.#answer.replaceCommitted(reply, done, error)
    this.#work.rollBack()
    this.#answer.replace(reply, null, done, error)
  }

  broken (error?: Error): void {
    const { failure, state } = this.#work.session
    const err = error ?? failure ?? (this.#payload as Partial<Readable> | null)?.errored ?? undefined
    const losesNothing = error === undefined &&
      (state === 'idle' || (state === 'closed' && this.#work.state !== 'given up'))
    if (!losesNothing) {
      this.#reply.log.error({ err },
        'the response was broken off: the transaction behind its body is not committed')
    }
    this.#work.rollBack()
  }
}
