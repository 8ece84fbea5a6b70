import type { FastifyReply } from 'fastify'
import { type PgScopeError, pgScopeError } from '../errors.ts'
import { takeBackSuccess } from './error-headers.ts'
import { announceEnd } from './last-response.ts'
import { discard } from './payload.ts'
import type { RequestWork } from './request-work.ts'

export type Headers = ReturnType<FastifyReply['getHeaders']>
export type Done = (error?: Error | null, payload?: unknown) => void

/** The response of a request that used its session: passes it on to Fastify, or replaces it by an error. */
export class Answer {
  readonly #work: RequestWork
  /** Another response was sent while COMMIT was in progress: by handlerTimeout or a second send(). */
  #overtaken = false
  /** An error has replaced the response, and the reply has the error's headers. */
  #replaced = false

  constructor (work: RequestWork) {
    this.#work = work
  }

  /** The response that COMMIT belongs to will be sent. This one, which was sent later, is dropped. */
  drop (payload: unknown): void {
    this.#overtaken = true
    discard(payload)
  }

  /** Restores the status and the headers of the response that COMMIT belongs to, if a dropped one has changed them. */
  restore (reply: FastifyReply, status: number, headers: Headers): void {
    if (!this.#overtaken) return
    for (const name of Object.keys(reply.getHeaders())) reply.removeHeader(name)
    reply.code(status).headers(headers as Record<string, string>)
  }

  /** An error was thrown after a success was about to be sent. */
  failed (reply: FastifyReply): void {
    if (!this.#replaced && this.#work.state !== 'committing') takeBackSuccess(reply)
  }

  /** A payload that is a file is now open or errored. Another response may have been sent in the meantime. */
  opened (reply: FastifyReply, payload: unknown, send: () => void): void {
    if (reply.sent || reply.raw.headersSent) return discard(payload)
    try {
      send()
    } catch (error) {
      sendUnsendable(reply, error as Error)
    }
  }

  send (reply: FastifyReply, done: Done, error: Error | null, payload?: unknown): void {
    // The app may have begun to close since the onSend hooks ran, while COMMIT was in progress.
    announceEnd(reply)
    try {
      done(error, payload)
    } catch (error) {
      sendUnsendable(reply, error as Error)
    }
  }

  /** Sends an error in place of the response. */
  replace (reply: FastifyReply, payload: unknown, done: Done, error: Error): void {
    discard(payload)
    takeBackSuccess(reply)
    this.#replaced = true
    // After an error handler has run, Fastify takes status and headers from the reply, not from the error.
    const { statusCode = 500, headers } = error as PgScopeError
    if (this.#overtaken || this.#work.state === 'answer failed' || reply.statusCode >= 400) {
      reply.code(statusCode >= 400 && statusCode <= 599 ? statusCode : 500).headers(headers ?? {})
    }
    this.send(reply, done, error)
  }

  /** Sends an error from outside of Fastify's hooks. */
  force (reply: FastifyReply, error: Error): void {
    try {
      takeBackSuccess(reply)
      reply.send(error)
    } catch { // no answer can be written any more
      reply.raw.destroy()
    }
  }

  /** Sends an error although the work is committed. The error says so. */
  replaceCommitted (reply: FastifyReply, done: Done, cause?: unknown): void {
    this.#work.state = 'answer failed'
    this.#work.session.end('rollback').catch(() => {})
    const error = pgScopeError('FST_PG_SCOPE_ANSWER_FAILED',
      'The transaction was committed, and then an error took the place of its answer.', cause)
    reply.log.error({ err: error }, 'the transaction was committed, and then an error took the place of its answer')
    this.replace(reply, null, done, error)
  }
}

/** Fastify could not write the response: done() threw, and no caller would handle the exception. */
export function sendUnsendable (reply: FastifyReply, error: Error): void {
  try {
    reply.send(error)
  } catch (again) {
    reply.log.error({ err: again }, 'no answer could be written')
    reply.raw.destroy()
  }
}
