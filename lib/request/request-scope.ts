import type { Readable } from 'node:stream'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { type PgScopeError, pgScopeError } from '../errors.ts'
import { isPromiseLike } from '../kind-of.ts'
import type { SessionConfig } from '../config/session-config.ts'
import type { ManagedSession, Outcome } from '../session/managed-session.ts'
import { isDelivered, isOver } from './delivery.ts'
import { type BodySource, HeldResponse } from './held-response.ts'
import { outcomeOf, type RequestOutcome } from './outcome.ts'
import { takeBackSuccess } from './error-headers.ts'
import { discard, isOpening, isResponse, watch, whenOpened } from './payload.ts'
import { isStream } from './reply-stream.ts'
import { whenOver } from '../one-listener.ts'
import { asError } from '../exchange/transaction-errors.ts'
import { checkPayload, checkSendable, unwrap } from './sendable.ts'

type Headers = ReturnType<FastifyReply['getHeaders']>
type Done = (error?: Error | null, payload?: unknown) => void

/**
 * Settles the session of one request. lib/request/lifecycle.ts creates it on the first use of `request.db` and calls it from
 * Fastify's hooks: attach() follows the response to its end, send() settles before a response is sent, forced() ends it on close.
 * `#work` is the state of the request's work and leaves 'open' only once; HeldResponse holds a streamed body until its
 * transaction has ended.
 */
export class RequestScope implements BodySource {
  session!: ManagedSession
  /** An error was thrown before the response was sent. */
  thrown = false
  readonly config: SessionConfig
  /** The route has this plugin's onSend hook after all other hooks. */
  readonly routed: boolean
  readonly #request: FastifyRequest
  #reply: FastifyReply | null = null
  /** Removes the listener for the socket, which is used while the reply is not known. */
  #detach: (() => void) | null = null
  /** The response was sent completely. */
  #delivered = false
  /** The client disconnected before that. */
  #gone = false
  /** The body that is being sent, while it may use the session. */
  #body: HeldResponse | null = null
  /** The outcome at the end of that body; null if it is decided at that time. */
  #bodyOutcome: Outcome | null = null
  #payload: unknown = null
  /** send() has been called for a response. */
  #answered = false
  /** The state of the work. It is decided once: a later response does not change it. */
  #work: 'open' | 'deciding' | 'committing' | 'committed' | 'answer failed' | 'left behind' | 'given up' = 'open'
  /** Another response was sent while COMMIT was in progress: by handlerTimeout or a second send(). */
  #overtaken = false
  /** An error has replaced the response, and the reply has the error's headers. */
  #replaced = false
  /** Stops waiting for the promise of commitIf: an error replaces the response. */
  #stopDeciding: (error: Error) => void = () => {}

  constructor (request: FastifyRequest, config: SessionConfig, routed: boolean) {
    this.#request = request
    this.config = config
    this.routed = routed
  }

  /** Follows the response until 'close', which is emitted exactly once, even if no hook ran. */
  attach (reply: FastifyReply): void {
    this.#detach?.()
    this.#reply = reply
    // Both events are emitted once. once() is not used: Fastify calls it for each route at boot, and after some hundred
    // calls V8 allocates its wrappers in the old generation, where they retain requests until a major collection.
    reply.raw.on('finish', () => { this.#delivered ||= isDelivered(reply.raw, this.#request.raw.socket) })
    reply.raw.on('close', () => this.#closed())
    // A response that waits for earlier ones of its socket (HTTP pipelining) emits no 'close' when the client
    // disconnects.
    if (reply.raw.socket === null) this.attachSocket()
    // First used by a handler that still runs after its response: 'close' may already have been emitted.
    if (isOver(reply.raw)) this.#closed()
  }

  /** The session is first used by a stream that is being sent: the end of that body waits for the session. */
  attachBody (reply: FastifyReply, payload: unknown): void {
    this.attach(reply)
    if (isOver(reply.raw)) return
    this.#answered = true
    this.#hold(reply, payload, null)
  }

  /** For a session that is used before this plugin's first hook, when the reply is not known. */
  attachSocket (): void {
    this.#detach = whenOver(this.#request.raw.socket, () => this.#closed())
  }

  /** An error was thrown. If a success was about to be sent, the error replaces it. */
  failed (reply: FastifyReply): void {
    this.thrown = true
    if (this.#answered && !this.#replaced && this.#work !== 'committing') takeBackSuccess(reply)
  }

  /** A response is about to be sent: settles the work, then calls `done`. */
  send (reply: FastifyReply, payload: unknown, done: Done): void {
    // Another plugin's onRequest hook failed before this plugin's.
    if (this.#reply === null) this.attach(reply)
    if (isOpening(payload) && !reply.raw.headersSent) return whenOpened(payload, () => this.#opened(reply, payload, done))
    if (this.#work === 'deciding' || this.#work === 'committing') {
      // The response that COMMIT belongs to will be sent. This one is dropped.
      this.#overtaken = true
      discard(payload)
      this.#tooLate('The request was answered before its work had ended')
      return
    }
    if (this.#body !== null) {
      // Too late for another response: Fastify fails to send it and destroys the raw response.
      if (reply.raw.headersSent) return done()
      this.#body.release()
      this.#body = null
    }
    if (this.#work === 'committed') {
      // Roll back the work of a body that will not be sent.
      this.session.end('rollback').catch(() => {})
      // A success from a custom error handler is correct: the work is committed.
      if (this.thrown && reply.statusCode >= 400) return this.#answerFailed(reply, done)
      return done()
    }
    this.#answered = true
    // An error that replaced a success passes through here again, while ROLLBACK is still in progress.
    if (this.#work !== 'open' || this.session.state === 'closed') return done()
    let outcome: ReturnType<typeof outcomeOf>
    try {
      if (isResponse(payload)) payload = unwrap(payload, reply)
      watch(payload)
      outcome = this.#outcome(reply)
    } catch (error) {
      this.#rollBack()
      return this.#replace(reply, payload, done, asError(error))
    }
    if (isPromiseLike(outcome)) this.#decide(outcome, reply, payload, done)
    else this.#settle(outcome, reply, payload, done)
  }

  /**
   * commitIf returned a promise. Whatever cancels a COMMIT also stops this wait: the work is rolled back, and an error is
   * sent.
   */
  #decide (outcome: PromiseLike<RequestOutcome>, reply: FastifyReply, payload: unknown, done: Done): void {
    const answer: Done = (error, payload) => this.#send(reply, done, error ?? null, payload)
    const decided = (next: () => void): void => {
      if (this.#work !== 'deciding') return
      this.#work = 'open'
      next()
    }
    const refuse = (error: Error): void => decided(() => {
      this.#rollBack(asError(error))
      this.#replace(reply, payload, answer, asError(error))
    })
    this.#work = 'deciding'
    this.#stopDeciding = refuse
    outcome.then((outcome) => decided(() => this.#settle(outcome, reply, payload, answer)), refuse)
  }

  #settle (outcome: RequestOutcome, reply: FastifyReply, payload: unknown, done: Done): void {
    let headers: Headers | undefined
    try {
      if (outcome !== 'refuse') {
        headers = reply.getHeaders()
        checkSendable(reply, headers, payload)
      }
    } catch (error) {
      this.#rollBack()
      return this.#replace(reply, payload, done, asError(error))
    }
    if (outcome === 'commit') return this.#commit(reply, headers!, payload, done)
    const { failure } = this.session
    if (outcome === 'rollback' && isStream(payload) && !this.#gone) {
      // The rows of the response are read in the transaction, although it is rolled back afterwards.
      if (failure !== null || !this.session.streaming) this.session.settle('rollback').catch(() => {})
      this.#hold(reply, payload, 'rollback')
    } else this.#rollBack()
    // The response does not wait for ROLLBACK, because its result would not change the error.
    if (outcome === 'refuse') this.#replace(reply, payload, done, failure as Error)
    else done(null, payload)
  }

  /** The handler has finished, with onAbort 'commit'. If its client has disconnected, no response may follow. */
  handled (): void {
    setImmediate(() => {
      if (this.#gone && !this.#answered) this.#endWithoutClient()
    })
  }

  async #endWithoutClient (): Promise<void> {
    const answered = this.#answered
    try {
      const outcome = await this.#outcome(this.#reply!)
      // A response was sent in the meantime: it decides.
      if (this.#answered !== answered) return
      if (outcome === 'rollback') this.#rollBack()
      else this.#inBackground()
    } catch (error) {
      this.#request.log.error({ err: error }, 'commitIf failed, and no answer was waiting for it')
      this.#rollBack()
    }
  }

  /** `closeTimeout` has elapsed. */
  forced (error: Error): void {
    if (this.#reply === null || this.#reply.sent || this.#work === 'committing') return
    if (this.#work === 'deciding') return this.#stopDeciding(error)
    if (this.#body !== null) {
      // A body without an open transaction can be completed.
      if (this.session.state === 'closed' && !this.session.streaming) this.#body.release()
      else this.#body.fail(error)
      return
    }
    this.#work = 'given up'
    try {
      takeBackSuccess(this.#reply)
      this.#reply.send(error)
    } catch { // no answer can be written any more
      this.#reply.raw.destroy()
    }
  }

  /** @throws what the user's commitIf throws */
  #outcome (reply: FastifyReply): ReturnType<typeof outcomeOf> {
    const { failure, rollbackOnly } = this.session
    return outcomeOf(
      { status: reply.statusCode, thrown: this.thrown, failed: failure !== null, rollbackOnly },
      this.config.commitIf && (() => this.config.commitIf!(this.#request, reply))
    )
  }

  #commit (reply: FastifyReply, headers: Headers, payload: unknown, done: Done): void {
    // If the client has disconnected, the body is not read, and no 'close' follows the response.
    const body = isStream(payload) && !this.#gone
    const streaming = isStream(payload) && this.session.streaming
    if (body && streaming) {
      this.#hold(reply, payload, 'commit')
      return done(null, payload)
    }
    if (this.config.commitOn === 'response' && !this.#gone) return done(null, payload)
    if (this.session.unused || (this.session.losesNothing && this.session.nothingAwaited)) {
      if (body) {
        this.session.settle('commit').catch((error) => this.#uncommitted(error))
        this.#hold(reply, payload, 'commit')
      } else this.#inBackground()
      return done(null, payload)
    }
    const status = reply.statusCode
    this.#work = 'committing'
    const committed = body ? this.session.settle('commit') : this.session.end('commit')
    committed.then(() => {
      this.#work = 'committed'
      if (this.#overtaken) {
        // Restore status and headers, which the other response has changed.
        for (const name of Object.keys(reply.getHeaders())) reply.removeHeader(name)
        reply.code(status).headers(headers as Record<string, string>)
      }
      if (streaming) this.#send(reply, done, null, '')
      else this.#sendCommitted(reply, done, payload)
    }, (reason) => {
      // settle() leaves the session open.
      this.#rollBack()
      this.#replace(reply, payload, done, asError(reason))
    })
  }

  /** The payload is a file that is now open or errored. Another response may have been sent in the meantime. */
  #opened (reply: FastifyReply, payload: unknown, done: Done): void {
    if (reply.sent || reply.raw.headersSent) return discard(payload)
    try {
      this.send(reply, payload, done)
    } catch (error) {
      this.#unsendable(reply, error as Error)
    }
  }

  /** A stream may have failed while COMMIT was in progress. */
  #sendCommitted (reply: FastifyReply, done: Done, payload: unknown): void {
    try {
      if (isStream(payload)) checkPayload(reply, payload)
    } catch (error) {
      discard(payload)
      return this.#answerFailed(reply, done, error)
    }
    if (isStream(payload)) {
      if (this.#gone) this.session.end('rollback').catch(() => {})
      else this.#hold(reply, payload, 'commit')
    }
    this.#send(reply, done, null, payload)
  }

  /** Sends an error although the work is committed. The error says so. */
  #answerFailed (reply: FastifyReply, done: Done, cause?: unknown): void {
    this.#work = 'answer failed'
    this.session.end('rollback').catch(() => {})
    const error = pgScopeError('FST_PG_SCOPE_ANSWER_FAILED', 'The transaction was committed, and then an error took the place of its answer.', cause)
    this.#request.log.error({ err: error }, 'the transaction was committed, and then an error took the place of its answer')
    this.#replace(reply, null, done, error)
  }

  /** Replaces a response by an error. */
  #replace (reply: FastifyReply, payload: unknown, done: Done, error: Error): void {
    discard(payload)
    takeBackSuccess(reply)
    this.#replaced = true
    // After an error handler has run, Fastify takes status and headers from the reply, not from the error.
    const { statusCode = 500, headers } = error as PgScopeError
    if (this.#overtaken || this.#work === 'answer failed' || reply.statusCode >= 400) {
      reply.code(statusCode >= 400 && statusCode <= 599 ? statusCode : 500).headers(headers ?? {})
    }
    this.#send(reply, done, error)
  }

  /** Keeps the session open during the body, whose end waits for the end of the session. */
  #hold (reply: FastifyReply, payload: unknown, outcome: Outcome | null): void {
    this.#bodyOutcome = outcome
    this.#payload = payload
    this.#body = new HeldResponse(reply.raw, this)
  }

  get open (): boolean {
    const { state } = this.session
    return state === 'opening' || state === 'active' || state === 'failed'
  }

  async finish (): Promise<void> {
    const outcome = this.#bodyOutcome ?? await this.#outcome(this.#reply!)
    const before = this.#work
    // The client disconnected while commitIf decided.
    if (before === 'given up' || before === 'left behind') return
    this.#work = 'committing'
    try {
      // A failed session rejects COMMIT with its failure.
      await this.session.end(outcome === 'rollback' ? 'rollback' : 'commit')
      this.#work = 'committed'
    } catch (error) {
      this.#work = before === 'committed' ? before : 'given up'
      throw asError(error)
    }
  }

  replace (error: Error): void {
    const reply = this.#reply!
    const done: Done = (error) => { reply.send(error) }
    // Fastify destroys it once the error is sent.
    ;(this.#payload as Partial<Readable> | null)?.unpipe?.(reply.raw)
    if (this.#work === 'committed') return this.#answerFailed(reply, done, error)
    this.#rollBack()
    this.#replace(reply, null, done, error)
  }

  broken (error?: Error): void {
    const { failure, state } = this.session
    const err = error ?? failure ?? (this.#payload as Partial<Readable> | null)?.errored ?? undefined
    const nothing = error === undefined && (state === 'idle' || (state === 'closed' && this.#work !== 'given up'))
    if (!nothing) this.#request.log.error({ err }, 'the response was broken off: the transaction behind its body is not committed')
    this.#rollBack()
  }

  #send (reply: FastifyReply, done: Done, error: Error | null, payload?: unknown): void {
    try {
      done(error, payload)
    } catch (error) {
      this.#unsendable(reply, error as Error)
    }
  }

  /** Fastify could not write the response: done() threw, and no caller would handle the exception. */
  #unsendable (reply: FastifyReply, error: Error): void {
    try {
      reply.send(error)
    } catch (again) {
      this.#request.log.error({ err: again }, 'no answer could be written')
      reply.raw.destroy()
    }
  }

  /** If COMMIT has not been sent, because statements are still running, it is no longer sent. */
  #tooLate (what: string): void {
    const error = pgScopeError('FST_PG_SCOPE_CANCELED', `${what}: uncommitted work is rolled back.`)
    if (this.#work === 'deciding') this.#stopDeciding(error)
    else this.session.end('rollback', error).catch(() => {})
  }

  #rollBack (reason?: Error): void {
    this.#work = 'given up'
    this.session.end('rollback', reason).catch(() => {})
  }

  /** Commits without a response that waits for it. */
  #inBackground (): void {
    if (this.#work === 'given up' || this.#work === 'left behind') return
    this.#work = 'left behind'
    this.session.end('commit').catch((error) => this.#uncommitted(error))
  }

  #uncommitted (error: unknown): void {
    const { log } = this.#request
    if (this.session.losesNothing) log.warn({ err: error }, 'a read-only transaction was not ended as it should: nothing is lost by it')
    else log.error({ err: error }, 'COMMIT failed, and no answer was waiting for it')
  }

  /** The work continues without its client. On an unknown route the end of the handler cannot be detected. */
  get #outlivesClient (): boolean {
    return this.config.onAbort === 'commit' && (this.routed || this.#answered)
  }

  #closed (): void {
    this.#detach?.()
    this.#body?.release()
    this.#settleAtClose()
    if (this.config.mode === 'autocommit' && this.#delivered && this.#reply!.raw.statusCode < 400) this.#logFailure()
  }

  /** Logs a failed statement that did not change the response: in mode 'autocommit' each statement is separate. */
  async #logFailure (): Promise<void> {
    if (!this.session.unused) await this.session.end('commit').catch(() => {})
    const err = this.session.firstFailure
    if (err !== null) this.#request.log.warn({ err }, 'a statement failed, and the answer was a success all the same (mode: \'autocommit\')')
  }

  #settleAtClose (): void {
    if (this.session.state === 'closed' || this.#work === 'given up' || this.#work === 'left behind') return
    if (this.#answered && this.#delivered) {
      // commitOn 'response'.
      if (this.#work !== 'deciding' && this.#work !== 'committing') this.#inBackground()
      return
    }
    if (!this.#answered && (this.#delivered || this.#reply?.sent === true)) return this.#answeredByOthers()
    this.#gone = true
    if (this.#work === 'deciding' || this.#work === 'committing') {
      if (!this.#outlivesClient) this.#tooLate('The client went away before its answer')
    } else if (!this.#outlivesClient || this.#bodyOutcome === 'rollback') {
      this.#rollBack(pgScopeError('FST_PG_SCOPE_CANCELED', 'The client went away before its response was sent: ' +
        'the running statement is canceled, and uncommitted work is rolled back.'))
    } else if (this.#answered) this.#endWithoutClient()
  }

  /** The response has ended without passing through this plugin's hooks. */
  #answeredByOthers (): void {
    // With an error, an earlier onSend hook has failed and Fastify has sent the error itself.
    if (!this.thrown && this.session.state !== 'idle') {
      this.#request.log.warn('the reply was hijacked, and its transaction is rolled back as the socket closes: call request.db.commit(), or do the work in app.db.scope()')
    }
    this.#rollBack()
  }
}
