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

/** The session of one request, and what becomes of it. Made when the request first touches it. */
export class RequestScope implements BodySource {
  session!: ManagedSession
  /** An error was thrown somewhere on the way to the answer. */
  thrown = false
  readonly config: SessionConfig
  /** The route has a hook of ours behind all others. */
  readonly routed: boolean
  readonly #request: FastifyRequest
  #reply: FastifyReply | null = null
  /** Undoes the listeners for the socket, where it stood in for a reply that was not known yet. */
  #detach: (() => void) | null = null
  /** The response left in full. */
  #delivered = false
  /** The client went away before that. */
  #gone = false
  /** The body that is being sent, while it may use the session. */
  #body: HeldResponse | null = null
  /** What the end of that body makes of the transaction; null: decided then. */
  #bodyOutcome: Outcome | null = null
  #payload: unknown = null
  /** An answer has reached the point where it is settled. */
  #answered = false
  /** What has become of the work. It is decided once: an answer that comes later changes nothing. */
  #work: 'open' | 'deciding' | 'committing' | 'committed' | 'answer failed' | 'left behind' | 'given up' = 'open'
  /** Another answer came while COMMIT was under way: by handlerTimeout, or a second send(). */
  #overtaken = false
  /** An error has taken the place of the answer, and the headers on the reply are its own. */
  #replaced = false
  /** Ends the wait for the promise of commitIf: an error takes the place of the answer. */
  #stopDeciding: (error: Error) => void = () => {}

  constructor (request: FastifyRequest, config: SessionConfig, routed: boolean) {
    this.#request = request
    this.config = config
    this.routed = routed
  }

  /** Follows the response to its close, which comes exactly once, whatever hooks ran. */
  attach (reply: FastifyReply): void {
    this.#detach?.()
    this.#reply = reply
    // Both come once. Not by once(): Fastify calls that for each route as it boots, and from some hundred routes on
    // V8 takes what once() makes for long-lived, from the start: each request would be kept by it until the next
    // major collection.
    reply.raw.on('finish', () => { this.#delivered ||= isDelivered(reply.raw, this.#request.raw.socket) })
    reply.raw.on('close', () => this.#closed())
    // A response that waits for others of its socket (HTTP pipelining) hears of no hang-up.
    if (reply.raw.socket === null) this.attachSocket()
    // Touched by a handler that has outlived its response: its 'close' may have come already, and comes once.
    if (isOver(reply.raw)) this.#closed()
  }

  /** The session is touched for the first time by a stream that is being sent: the end of that body waits for it. */
  attachBody (reply: FastifyReply, payload: unknown): void {
    this.attach(reply)
    if (isOver(reply.raw)) return
    this.#answered = true
    this.#hold(reply, payload, null)
  }

  /** For a session that is touched before any hook of ours ran, so that the reply is not known yet. */
  attachSocket (): void {
    this.#detach = whenOver(this.#request.raw.socket, () => this.#closed())
  }

  /** An error was thrown. Where a success was about to be sent, the error takes its place. */
  failed (reply: FastifyReply): void {
    this.thrown = true
    if (this.#answered && !this.#replaced && this.#work !== 'committing') takeBackSuccess(reply)
  }

  /** An answer is about to be sent: settle, then let it go. */
  send (reply: FastifyReply, payload: unknown, done: Done): void {
    // Another plugin's onRequest hook failed before ours came to tell.
    if (this.#reply === null) this.attach(reply)
    if (isOpening(payload) && !reply.raw.headersSent) return whenOpened(payload, () => this.#opened(reply, payload, done))
    if (this.#work === 'deciding' || this.#work === 'committing') {
      // COMMIT stands, and the answer that it was for is the one to be sent. This one is dropped.
      this.#overtaken = true
      discard(payload)
      this.#tooLate('The request was answered before its work was through')
      return
    }
    if (this.#body !== null) {
      // Too late for another answer: Fastify fails to send it, and destroys the response.
      if (reply.raw.headersSent) return done()
      this.#body.release()
      this.#body = null
    }
    if (this.#work === 'committed') {
      // What a body has done that is not sent after all.
      this.session.end('rollback').catch(() => {})
      // An error handler that answers with a success tells the client no lie.
      if (this.thrown && reply.statusCode >= 400) return this.#answerFailed(reply, done)
      return done()
    }
    this.#answered = true
    // An error that took the place of a refused success comes through here again, while ROLLBACK is still under way.
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
   * commitIf returned a promise. What ends the wait for COMMIT ends this wait too: the work is rolled back, and the
   * client gets an error.
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
      // Rows that the reply is made of are read in the transaction, whatever becomes of it.
      if (failure !== null || !this.session.streaming) this.session.settle('rollback').catch(() => {})
      this.#hold(reply, payload, 'rollback')
    } else this.#rollBack()
    // The client need not wait for ROLLBACK: nothing of what it could answer changes the error.
    if (outcome === 'refuse') this.#replace(reply, payload, done, failure as Error)
    else done(null, payload)
  }

  /** The handler is through, with onAbort 'commit': where its client has gone, no answer may ever come. */
  handled (): void {
    setImmediate(() => {
      if (this.#gone && !this.#answered) this.#endWithoutClient()
    })
  }

  async #endWithoutClient (): Promise<void> {
    const answered = this.#answered
    try {
      const outcome = await this.#outcome(this.#reply!)
      // An answer came in the meantime: its end decides.
      if (this.#answered !== answered) return
      if (outcome === 'rollback') this.#rollBack()
      else this.#inBackground()
    } catch (error) {
      this.#request.log.error({ err: error }, 'commitIf failed, and no answer was waiting for it')
      this.#rollBack()
    }
  }

  /** close() waits no longer. */
  forced (error: Error): void {
    if (this.#reply === null || this.#reply.sent || this.#work === 'committing') return
    if (this.#work === 'deciding') return this.#stopDeciding(error)
    if (this.#body !== null) {
      // Where nothing was open behind the body, it can be sent to its end.
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
    // Where the client has gone nothing reads a body to its end, and no 'close' comes after the answer.
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
        // The answer that overtook this one has left its status and headers behind.
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

  /** The payload is a file that is open now, or errored. In the meantime another answer may have been sent. */
  #opened (reply: FastifyReply, payload: unknown, done: Done): void {
    if (reply.sent || reply.raw.headersSent) return discard(payload)
    try {
      this.send(reply, payload, done)
    } catch (error) {
      this.#unsendable(reply, error as Error)
    }
  }

  /** A stream can have failed while COMMIT was under way. */
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

  /** The client reads an error although the work is committed: the error says so. */
  #answerFailed (reply: FastifyReply, done: Done, cause?: unknown): void {
    this.#work = 'answer failed'
    this.session.end('rollback').catch(() => {})
    const error = pgScopeError('FST_PG_SCOPE_ANSWER_FAILED', 'The transaction was committed, and then an error took the place of its answer.', cause)
    this.#request.log.error({ err: error }, 'the transaction was committed, and then an error took the place of its answer')
    this.#replace(reply, null, done, error)
  }

  /** An error takes the place of an answer, which leaves nothing behind. */
  #replace (reply: FastifyReply, payload: unknown, done: Done, error: Error): void {
    discard(payload)
    takeBackSuccess(reply)
    this.#replaced = true
    // Where an error handler has run already, Fastify takes status and headers from the reply as they are.
    const { statusCode = 500, headers } = error as PgScopeError
    if (this.#overtaken || this.#work === 'answer failed' || reply.statusCode >= 400) reply.code(statusCode >= 400 && statusCode <= 599 ? statusCode : 500).headers(headers ?? {})
    this.#send(reply, done, error)
  }

  /** The session goes on until the last bytes of the body, which wait for its end. */
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
    // The client went away while commitIf decided.
    if (before === 'given up' || before === 'left behind') return
    this.#work = 'committing'
    try {
      // A failed session refuses COMMIT with its failure.
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

  /** Fastify could not write the answer; whoever else calls a hook's done() would hear of it. */
  #unsendable (reply: FastifyReply, error: Error): void {
    try {
      reply.send(error)
    } catch (again) {
      this.#request.log.error({ err: again }, 'no answer could be written')
      reply.raw.destroy()
    }
  }

  /** Where COMMIT has not been written yet, because statements are still under way, it is not written any more. */
  #tooLate (what: string): void {
    const error = pgScopeError('FST_PG_SCOPE_CANCELED', `${what}: the running statement is cancelled, and what is not committed is rolled back.`)
    if (this.#work === 'deciding') this.#stopDeciding(error)
    else this.session.end('rollback', error).catch(() => {})
  }

  #rollBack (reason?: Error): void {
    this.#work = 'given up'
    this.session.end('rollback', reason).catch(() => {})
  }

  /** COMMIT that no answer waits for. */
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

  /**
   * The work goes on without its client. Before the answer, nothing tells when the handler of a route that was not
   * seen is through.
   */
  get #outlivesClient (): boolean {
    return this.config.onAbort === 'commit' && (this.routed || this.#answered)
  }

  #closed (): void {
    this.#detach?.()
    this.#body?.release()
    this.#settleAtClose()
    if (this.config.mode === 'autocommit' && this.#delivered && this.#reply!.raw.statusCode < 400) this.#tellOfFailure()
  }

  /**
   * Each statement stood alone, so that one that failed changed nothing for the answer: without this nobody might
   * hear of it.
   */
  async #tellOfFailure (): Promise<void> {
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
      this.#rollBack(pgScopeError('FST_PG_SCOPE_CANCELED', 'The client went away before its answer: the running statement is cancelled, and what is not committed is rolled back.'))
    } else if (this.#answered) this.#endWithoutClient()
  }

  /** The response has ended and none of our hooks has seen it. */
  #answeredByOthers (): void {
    // Each onSend hook in front of ours has thrown, so that Fastify has written the error by itself.
    if (!this.thrown && this.session.state !== 'idle') {
      this.#request.log.warn('the reply was hijacked, and its transaction is rolled back as the socket closes: call request.db.commit(), or do the work in app.db.scope()')
    }
    this.#rollBack()
  }
}
