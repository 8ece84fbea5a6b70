import type { FastifyReply } from 'fastify'
import { committedInPart } from '../engine/retries.ts'
import type { ManagedSession } from '../session/managed-session.ts'
import type { AttemptHost } from './attempt-host.ts'
import { isOver } from './delivery.ts'
import { isStream } from './reply-stream.ts'

/** Why no further attempt is made, as a part of a sentence. */
export const answeredMeanwhile = 'the request was answered in the meantime'

/** Why the handler of a request cannot run again, as parts of a sentence. */
export class Obstacles {
  /** One that stays, or null. */
  #lasting: string | null = null
  readonly #host: AttemptHost
  readonly #reply: FastifyReply
  /** The body was not read when the handler began: no other attempt can read it again. */
  readonly #mayReadBody: boolean

  constructor (host: AttemptHost, reply: FastifyReply) {
    this.#host = host
    this.#reply = reply
    this.#mayReadBody = !reply.request.raw.readableDidRead
  }

  /** No further attempt may begin. */
  add (why: string): void {
    this.#lasting ??= why
  }

  /** Whether one was added. */
  get areLasting (): boolean {
    return this.#lasting !== null
  }

  /** @returns why the handler cannot run again now, or null */
  find (session: ManagedSession | undefined): string | null {
    const reply = this.#reply
    const { request: { raw, body } } = reply
    if (this.#lasting !== null) return this.#lasting
    if (reply.sent || reply.raw.headersSent) return 'the response was already sent'
    if (isOver(reply.raw) && !this.#host.outlivesClient) return 'the client had disconnected'
    if (session?.hasCommitted === true) return committedInPart
    if (isStream(body) || (this.#mayReadBody && raw.readableDidRead)) return 'its body was a stream'
    return this.#host.usesOtherEngine() ? 'the request uses another database too' : null
  }
}
