import type { FastifyReply, FastifyRequest } from 'fastify'
import { pgScopeError } from '../errors.ts'
import type { Unit } from '../options.ts'
import type { ManagedSession } from '../session/managed-session.ts'
import { outcomeOf, type RequestOutcome } from './outcome.ts'
import { bodyBeforeEnd, isStream } from './reply-stream.ts'
import { whenOver } from '../one-listener.ts'
import { asError } from '../session/commit-error.ts'
import { checkSendable, isResponse, unwrap } from './sendable.ts'

type Headers = ReturnType<FastifyReply['getHeaders']>
type Done = (error?: Error | null, payload?: unknown) => void

/** The session of one request, and what becomes of it. Made when the request first touches it. */
export class RequestScope {
  session!: ManagedSession
  /** An error was thrown somewhere on the way to the answer. */
  thrown = false
  readonly unit: Unit
  /** The route has a hook of ours behind all others. */
  readonly routed: boolean
  readonly #request: FastifyRequest
  #reply: FastifyReply | null = null
  /** Undoes the listeners for the socket, where it stood in for a reply that was not known yet. */
  #detach: (() => void) | null = null
  /** The answer left in full. */
  #delivered = false
  /** The client went away before that. */
  #gone = false
  /** An answer has reached the point where it is settled. */
  #answered = false
  /** What has become of the work. It is decided once: an answer that comes later changes nothing. */
  #work: 'open' | 'committing' | 'committed' | 'left behind' | 'given up' = 'open'
  /** Another answer came while COMMIT was under way: by handlerTimeout, or a second send(). */
  #overtaken = false

  constructor (request: FastifyRequest, unit: Unit, routed: boolean) {
    this.#request = request
    this.unit = unit
    this.routed = routed
  }

  /** Follows the response to its close, which comes exactly once, whatever hooks ran. */
  attach (reply: FastifyReply): void {
    this.#detach?.()
    this.#reply = reply
    // Both come once. Not by once(): Fastify calls that for each route as it boots, and from some hundred routes on V8 takes what once()
    // makes for long-lived, from the start: each request would be kept by it until the next major collection.
    reply.raw.on('finish', () => { this.#delivered = true })
    reply.raw.on('close', () => this.#closed())
    // A response that waits for others of its socket (HTTP pipelining) hears of no hang-up.
    if (reply.raw.socket === null) this.attachSocket()
    // Touched by a handler that has outlived its response: its 'close' may have come already, and comes once.
    if (reply.raw.writableEnded || reply.raw.destroyed) this.#closed()
  }

  /** For a session that is touched before any hook of ours ran, so that the reply is not known yet. */
  attachSocket (): void {
    this.#detach = whenOver(this.#request.raw.socket, () => this.#closed())
  }

  /** An answer is about to be sent: settle, then let it go. */
  send (reply: FastifyReply, payload: unknown, done: Done): void {
    // Another plugin's onRequest hook failed before ours came to tell.
    if (this.#reply === null) this.attach(reply)
    if (this.#work === 'committing') {
      // COMMIT stands, and the answer that it was for is the one to be sent. This one is dropped.
      this.#overtaken = true
      this.#tooLate('The request was answered before its work was through')
      return
    }
    if (this.#work === 'committed') {
      if (this.thrown) this.#request.log.error({ statusCode: reply.statusCode }, 'the transaction was committed, and then an error took the place of its answer')
      return done()
    }
    this.#answered = true
    // An error that took the place of a refused success comes through here again, while ROLLBACK is still under way.
    if (this.#work !== 'open' || this.session.state === 'closed') return done()
    let outcome: RequestOutcome
    let headers: Headers | undefined
    try {
      if (isResponse(payload)) payload = unwrap(payload, reply)
      outcome = this.#outcome(reply)
      if (outcome === 'commit') {
        headers = reply.getHeaders()
        checkSendable(headers, reply.statusCode, payload)
      }
    } catch (error) {
      this.#rollBack()
      return done(error as Error)
    }
    if (outcome === 'commit') return this.#commit(reply, headers!, payload, done)
    const { failure } = this.session
    // Rows that the reply is made of are read in the transaction, whatever becomes of it.
    if (failure === null && isStream(payload) && this.session.streaming) return done(null, bodyBeforeEnd(payload, () => this.session.end('rollback')))
    this.#rollBack()
    // The client need not wait for ROLLBACK: nothing of what it could answer changes the error.
    done(outcome === 'refuse' ? failure : null, payload)
  }

  /** The handler is through, with onAbort 'commit': where its client has gone, no answer may ever come. */
  handled (): void {
    setImmediate(() => {
      if (!this.#gone || this.#answered) return
      try {
        if (this.#outcome(this.#reply!) === 'rollback') this.#rollBack()
        else this.#inBackground()
      } catch (error) {
        this.#request.log.error({ err: error }, 'commitIf failed, and no answer was waiting for it')
        this.#rollBack()
      }
    })
  }

  /** close() waits no longer. */
  forced (error: Error): void {
    if (this.#reply === null || this.#reply.sent || this.#work === 'committing') return
    try {
      this.#reply.send(error)
    } catch { // no answer can be written any more
      this.#reply.raw.destroy()
    }
  }

  /** @throws what the user's commitIf throws */
  #outcome (reply: FastifyReply): RequestOutcome {
    const { failure, rollbackOnly } = this.session
    return outcomeOf(
      { status: reply.statusCode, thrown: this.thrown, failed: failure !== null, rollbackOnly },
      this.unit.commitIf && (() => this.unit.commitIf!(this.#request, reply))
    )
  }

  #commit (reply: FastifyReply, headers: Headers, payload: unknown, done: Done): void {
    // Where the client has gone nothing reads a body to its end, and no 'close' comes after the answer.
    const streaming = isStream(payload) && this.session.streaming
    if (streaming && !this.#gone) return done(null, bodyBeforeEnd(payload, () => this.session.end('commit')))
    if (this.unit.commitOn === 'response' && !this.#gone) return done(null, payload)
    if (this.session.unused || (this.session.losesNothing && this.session.answered)) {
      this.#inBackground()
      return done(null, payload)
    }
    const status = reply.statusCode
    this.#work = 'committing'
    this.session.end('commit').then(() => {
      this.#work = 'committed'
      if (this.#overtaken) {
        // The answer that overtook this one has left its status and headers behind.
        for (const name of Object.keys(reply.getHeaders())) reply.removeHeader(name)
        reply.code(status).headers(headers as Record<string, string>)
      }
      this.#send(reply, done, null, streaming ? '' : payload)
    }, (reason) => {
      const error = asError(reason)
      this.#work = 'given up'
      // Fastify keeps the status of an error that was to be sent.
      if (this.#overtaken || reply.statusCode >= 400) reply.code(error.statusCode ?? 500)
      this.#send(reply, done, error)
    })
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
    this.session.end('rollback', pgScopeError('FST_PG_SCOPE_CANCELED', `${what}: the running statement is cancelled, and the work rolled back.`)).catch(() => {})
  }

  #rollBack (reason?: Error): void {
    this.#work = 'given up'
    this.session.end('rollback', reason).catch(() => {})
  }

  /** COMMIT that no answer waits for. */
  #inBackground (): void {
    if (this.#work !== 'open') return
    this.#work = 'left behind'
    this.session.end('commit').catch((error) => {
      if (this.session.losesNothing) this.#request.log.warn({ err: error }, 'a read-only transaction was not ended as it should: nothing is lost by it')
      else this.#request.log.error({ err: error }, 'COMMIT failed, and no answer was waiting for it')
    })
  }

  #closed (): void {
    this.#detach?.()
    this.#settleAtClose()
    if (this.unit.mode === 'autocommit' && this.#delivered && this.#reply!.raw.statusCode < 400) this.#tellOfFailure()
  }

  /** Each statement stood alone, so that one that failed changed nothing for the answer: without this nobody might hear of it. */
  async #tellOfFailure (): Promise<void> {
    if (!this.session.unused) await this.session.end('commit').catch(() => {})
    const err = this.session.firstFailure
    if (err !== null) this.#request.log.warn({ err }, 'a statement failed, and the answer was a success all the same (mode: \'autocommit\')')
  }

  #settleAtClose (): void {
    if (this.session.state === 'closed') return
    if (this.#work === 'committing') return this.#tooLate('The client went away before its answer')
    if (this.#delivered && this.#answered) {
      // commitOn 'response', or a stream that has committed already.
      return this.#inBackground()
    }
    if (this.#delivered || this.#reply?.sent === true) {
      if (this.session.state !== 'idle') {
        this.#request.log.warn('the reply was hijacked, and its transaction is rolled back as the socket closes: call request.db.commit(), or do the work in app.db.scope()')
      }
      return this.#rollBack()
    }
    this.#gone = true
    // A route that was not seen has nobody to tell when its handler is through, so that its work could stay open for ever.
    if (this.unit.onAbort === 'commit' && this.routed && !this.#answered) return
    this.#rollBack(pgScopeError('FST_PG_SCOPE_CANCELED', 'The client went away before its answer: the running statement is cancelled, and the work rolled back.'))
  }
}
