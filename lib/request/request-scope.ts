import type { FastifyReply, FastifyRequest } from 'fastify'
import { pgScopeError } from '../errors.ts'
import { isPromiseLike } from '../kind-of.ts'
import type { SessionConfig } from '../config/session-config.ts'
import type { ManagedSession, Outcome } from '../session/managed-session.ts'
import { asError } from '../exchange/transaction-errors.ts'
import { whenOver } from '../one-listener.ts'
import { Answer, type Done, type Headers } from './answer.ts'
import { closeWhenReset, isDelivered, isOver } from './delivery.ts'
import type { EarlySession } from './early-session.ts'
import type { outcomeOf, RequestOutcome } from './outcome.ts'
import { discard, isOpening, isResponse, watch, whenOpened } from './payload.ts'
import type { HandlerAttempts } from './handler-attempts.ts'
import { answeredMeanwhile } from './obstacles.ts'
import { isStream } from './reply-stream.ts'
import { RequestWork } from './request-work.ts'
import { checkPayload, checkSendable, unwrap } from './sendable.ts'
import { StreamedBody } from './streamed-body.ts'

/**
 * Settles the session of one request. lifecycle.ts creates it on the first use of `request.db` and calls it from
 * Fastify's hooks: attach() follows the response to its end, send() settles before a response is sent, forced() ends it
 * on close. RequestWork has the state of the work, Answer the response, StreamedBody a body that uses the session.
 */
export class RequestScope {
  readonly config: SessionConfig
  /** The route has this plugin's onSend hook after all other hooks. */
  readonly routed: boolean
  /** The attempts of the handler, with the option `retry`. */
  attempts: HandlerAttempts | null = null
  /** The session as hooks before the handler see it, with the option `retry`. */
  early: EarlySession | null = null
  readonly #request: FastifyRequest
  #work: RequestWork
  #answer: Answer
  #reply: FastifyReply | null = null
  /** Removes the listener for the socket, which is used while the reply is not known. */
  #detach: (() => void) | null = null
  /** The response was sent completely. */
  #delivered = false
  /** The client disconnected before that. */
  #gone = false
  /** The body that is being sent, while it may use the session. */
  #body: StreamedBody | null = null
  /** send() has been called for a response. */
  answered = false

  constructor (request: FastifyRequest, config: SessionConfig, routed: boolean) {
    this.#request = request
    this.config = config
    this.routed = routed
    this.#work = new RequestWork(request, config)
    this.#answer = new Answer(this.#work)
  }

  get session (): ManagedSession {
    return this.#work.session
  }

  /** @param hasFailed an error was thrown before the session was used */
  use (session: ManagedSession, hasFailed: boolean): void {
    this.#work.session = session
    this.#work.thrown = hasFailed
  }

  /** The handler runs again, in a session of its own: nothing was sent. */
  restart (session: ManagedSession): void {
    this.#work = new RequestWork(this.#request, this.config)
    this.#answer = new Answer(this.#work)
    this.answered = false
    this.use(session, false)
    this.early?.moveTo(session)
  }

  /** Follows the response until 'close', which is emitted exactly once, even if no hook ran. */
  attach (reply: FastifyReply): void {
    this.#detach?.()
    this.#reply = reply
    // Both events are emitted once. once() is not used: Fastify calls it for each route at boot, and after some hundred
    // calls V8 allocates its wrappers in the old generation, where they retain requests until a major collection.
    reply.raw.on('finish', () => { this.#delivered ||= isDelivered(reply.raw, this.#request.raw.socket) })
    reply.raw.on('close', () => this.#closed())
    closeWhenReset(reply.raw)
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
    this.answered = true
    this.#hold(reply, payload, null)
  }

  /** For a session that is used before this plugin's first hook, when the reply is not known. */
  attachSocket (): void {
    this.#detach = whenOver(this.#request.raw.socket, () => this.#closed())
  }

  /** An error was thrown. If a success was about to be sent, the error replaces it. */
  failed (reply: FastifyReply): void {
    this.#work.thrown = true
    if (this.answered) this.#answer.failed(reply)
  }

  /** A response is about to be sent: settles the work, then calls `done`. */
  send (reply: FastifyReply, payload: unknown, done: Done): void {
    // Another plugin's onRequest hook failed before this plugin's.
    if (this.#reply === null) this.attach(reply)
    if (this.attempts?.isAnsweredMeanwhile(payload, this.#work.thrown)) return
    if (isOpening(payload) && !reply.raw.headersSent) {
      return whenOpened(payload, () => this.#answer.opened(reply, payload, () => this.send(reply, payload, done)))
    }
    const work = this.#work
    if (work.state === 'deciding' || work.state === 'committing') {
      this.#answer.drop(payload)
      this.attempts?.stop(answeredMeanwhile)
      this.#work.cancel('The request was answered before its work had ended')
      return
    }
    if (this.#body !== null) {
      // Too late for another response: Fastify fails to send it and destroys the raw response.
      if (reply.raw.headersSent) return done()
      this.#body.release()
      this.#body = null
    }
    if (work.state === 'committed') {
      // Roll back the work of a body that will not be sent.
      this.session.end('rollback').catch(() => {})
      // A success from a custom error handler is correct: the work is committed.
      if (work.thrown && reply.statusCode >= 400) return this.#answer.replaceCommitted(reply, done)
      return done()
    }
    this.answered = true
    // An error that replaced a success passes through here again, while ROLLBACK is still in progress.
    if (work.state !== 'open' || this.session.state === 'closed') return done()
    let outcome: ReturnType<typeof outcomeOf>
    try {
      if (isResponse(payload)) payload = unwrap(payload, reply)
      watch(payload)
      outcome = work.outcome(reply)
    } catch (error) {
      work.rollBack()
      return this.#answer.replace(reply, payload, done, asError(error))
    }
    if (isPromiseLike(outcome)) this.#decide(outcome, reply, payload, done)
    else this.#settle(outcome, reply, payload, done)
  }

  #decide (outcome: PromiseLike<RequestOutcome>, reply: FastifyReply, payload: unknown, done: Done): void {
    const answer: Done = (error, payload) => this.#answer.send(reply, done, error ?? null, payload)
    this.#work.decide(outcome, (outcome) => this.#settle(outcome, reply, payload, answer), (error) => {
      this.#work.rollBack(error)
      this.#answer.replace(reply, payload, answer, error)
    })
  }

  #settle (outcome: RequestOutcome, reply: FastifyReply, payload: unknown, done: Done): void {
    let headers: Headers | undefined
    try {
      if (outcome !== 'refuse') {
        headers = reply.getHeaders()
        checkSendable(reply, headers, payload)
      }
    } catch (error) {
      this.#work.rollBack()
      return this.#answer.replace(reply, payload, done, asError(error))
    }
    if (outcome === 'commit') return this.#commit(reply, headers!, payload, done)
    const { failure } = this.session
    if (outcome === 'refuse' && this.attempts?.repeats(failure, payload, this.#work)) return
    if (outcome === 'rollback' && isStream(payload) && !this.#gone) {
      // The rows of the response are read in the transaction, although it is rolled back afterwards.
      if (failure !== null || !this.session.streaming) this.session.settle('rollback').catch(() => {})
      this.#hold(reply, payload, 'rollback')
    } else this.#work.rollBack()
    // The response does not wait for ROLLBACK, because its result would not change the error.
    if (outcome === 'refuse') this.#answer.replace(reply, payload, done, failure as Error)
    else done(null, payload)
  }

  /** The handler has finished, with onAbort 'commit'. If its client has disconnected, no response may follow. */
  handled (): void {
    setImmediate(() => {
      if (this.#gone && !this.answered) this.#endWithoutClient()
    })
  }

  #endWithoutClient (): void {
    const answered = this.answered
    // A response that is sent in the meantime decides.
    const repeats = (error: unknown): boolean => this.attempts?.repeats(error, null, this.#work) === true
    this.#work.endWithoutClient(this.#reply!, () => this.answered === answered, repeats)
  }

  /** The request is about to become another protocol: its work ends here. @throws why nothing is committed */
  upgrade (): Promise<void> {
    this.answered = true
    return this.#work.settle(this.#reply!)
  }

  /** `closeTimeout` has elapsed. */
  forced (error: Error): void {
    const work = this.#work
    if (this.#reply === null || this.#reply.sent || work.state === 'committing') return
    if (work.state === 'deciding') return work.stopDeciding(error)
    if (this.#body !== null) return this.#body.forced(error)
    work.state = 'given up'
    this.#answer.force(this.#reply, error)
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
        this.session.settle('commit').catch((error) => this.#work.reportUncommitted(error))
        this.#hold(reply, payload, 'commit')
      } else this.#work.commitInBackground()
      return done(null, payload)
    }
    const status = reply.statusCode
    this.#work.state = 'committing'
    this.attempts?.saveAnswer(this.session)
    const committed = body ? this.session.settle('commit') : this.session.end('commit')
    committed.then(() => {
      this.#work.state = 'committed'
      this.#answer.restore(reply, status, headers)
      if (streaming) this.#answer.send(reply, done, null, '')
      else this.#sendCommitted(reply, done, payload)
    }, (reason) => {
      if (this.attempts?.repeats(reason, payload, this.#work)) return
      // settle() leaves the session open.
      this.#work.rollBack()
      this.#answer.replace(reply, payload, done, asError(reason))
    })
  }

  /** A stream may have failed while COMMIT was in progress. */
  #sendCommitted (reply: FastifyReply, done: Done, payload: unknown): void {
    try {
      if (isStream(payload)) checkPayload(reply, payload)
    } catch (error) {
      discard(payload)
      return this.#answer.replaceCommitted(reply, done, error)
    }
    if (isStream(payload)) {
      if (this.#gone) this.session.end('rollback').catch(() => {})
      else this.#hold(reply, payload, 'commit')
    }
    this.#answer.send(reply, done, null, payload)
  }

  /** Keeps the session open during the body, whose end waits for the end of the session. */
  #hold (reply: FastifyReply, payload: unknown, outcome: Outcome | null): void {
    this.#body = new StreamedBody(this.#work, this.#answer, reply, payload, outcome)
  }

  /** The work continues without its client. On an unknown route the end of the handler cannot be detected. */
  get #outlivesClient (): boolean {
    return this.config.onAbort === 'commit' && (this.routed || this.answered)
  }

  #closed (): void {
    this.#detach?.()
    this.attempts?.closed()
    this.#body?.release()
    this.#settleAtClose()
    if (this.config.mode === 'autocommit' && this.#delivered && this.#reply!.raw.statusCode < 400) {
      this.#work.reportFailedStatement()
    }
  }

  #settleAtClose (): void {
    if (this.#work.isEnded) return
    if (this.answered && this.#delivered) {
      // commitOn 'response'.
      if (this.#work.state !== 'deciding' && this.#work.state !== 'committing') this.#work.commitInBackground()
      return
    }
    if (!this.answered && (this.#delivered || this.#reply?.sent === true)) return this.#work.rollBackHijacked()
    this.#gone = true
    if (this.#work.state === 'deciding' || this.#work.state === 'committing') {
      if (!this.#outlivesClient) this.#work.cancel('The client went away before its answer')
    } else if (!this.#outlivesClient || this.#body?.outcome === 'rollback') {
      this.#work.rollBack(pgScopeError('FST_PG_SCOPE_CANCELED', 'The client went away before its response was sent: ' +
        'the running statement is canceled, and uncommitted work is rolled back.'))
    } else if (this.answered) this.#endWithoutClient()
  }
}
