import type { FastifyReply } from 'fastify'
import { bindToContext } from '../async-context.ts'
import { pgScopeError } from '../errors.ts'
import { committedInPart, type Retries } from '../engine/retries.ts'
import { isPromiseLike } from '../kind-of.ts'
import { conflictIn } from '../postgres/sqlstate.ts'
import type { ManagedSession } from '../session/managed-session.ts'
import { isOver } from './delivery.ts'
import type { IdempotentRequest } from './idempotent-request.ts'
import { discard } from './payload.ts'
import { announceError, ReplyState } from './reply-state.ts'
import { isStream } from './reply-stream.ts'
import type { RequestWork } from './request-work.ts'

/** Why no further attempt is made, as a part of a sentence. */
export const answeredMeanwhile = 'the request was answered in the meantime'

/** How long a key is asked for again after conflicts. Milliseconds. */
const longestConflict = 5000

/** The request as its attempts use it. */
export interface AttemptHost {
  /** Calls the handler. */
  handle (): unknown
  /** The session of this attempt, which is made if the request has not used it. */
  session (): ManagedSession
  /** Opens the session of the next attempt. */
  newSession (): ManagedSession
  /** Another engine has a session of this request: its work would be done twice. */
  usesOtherEngine (): boolean
  /** The work continues without its client: onAbort 'commit'. */
  readonly outlivesClient: boolean
}

/** The scope of the request, once its session is used. */
export interface AttemptScope {
  readonly session: ManagedSession
  attempts: HandlerAttempts | null
  /** A response of the current attempt is on its way. */
  readonly answered: boolean
  /** The next attempt begins, in this session. */
  restart (session: ManagedSession): void
  /** The handler has ended without a response, as its client has disconnected. */
  handled (): void
}

/** One call of the handler. */
interface Attempt {
  /** What follows it, if it failed while the handler was running or had answered: settles once that has answered. */
  successor: Promise<unknown> | null
}

/**
 * The attempts of the handler of one request, with the option `retry`. An attempt whose transaction fails because of a
 * concurrent one is undone, the reply included, and the handler runs again:
 *
 *     handler throws, or its promise rejects ──► failed() ──┐
 *     an error, or a success that COMMIT refuses, is        ├─► mayRepeat() ─► roll back, delay, next attempt
 *     about to be sent (RequestScope) ─────────► repeats() ─┘
 *
 * COMMIT stays behind all hooks of the response: until it has succeeded, nothing is sent.
 */
export class HandlerAttempts {
  readonly reply: FastifyReply
  /** Null until the session of the request is used. */
  scope: AttemptScope | null = null
  readonly #host: AttemptHost
  /** Null without the option `retry`. */
  readonly #retries: Retries | null
  /** Null if the request has no idempotency key. */
  readonly #idempotent: IdempotentRequest | null
  #current: Attempt = { successor: null }
  #before!: ReplyState
  /** The body was not read when the handler began: no other attempt can read it again. */
  #mayReadBody = false
  /** Begins the next attempt, in the async context of the first one. */
  #next!: () => unknown
  /** Why no further attempt is made, or null. */
  #obstacle: string | null = null
  /** Ends the delay before the next attempt. Null if no delay is running. */
  #endDelay: (() => void) | null = null
  #isBetween = false

  constructor (host: AttemptHost, retries: Retries | null, idempotent: IdempotentRequest | null, reply: FastifyReply) {
    this.#host = host
    this.#idempotent = idempotent
    this.#retries = retries
    this.reply = reply
  }

  /** The session of the request is used. */
  use (scope: AttemptScope): FastifyReply {
    this.scope = scope
    scope.attempts = this
    scope.session.attempt = this.#retries?.attempt ?? 1
    return this.reply
  }

  /** @returns what Fastify expects of a handler */
  start (): unknown {
    if (this.scope?.session.unused === false) this.#obstacle = 'a statement ran before the handler'
    this.#before = new ReplyState(this.reply)
    this.#mayReadBody = !this.reply.request.raw.readableDidRead
    if (this.#retries !== null) {
      this.#next = bindToContext(() => {
        if (this.scope !== null) this.#restart()
        return this.#run()
      })
    }
    return this.#run()
  }

  #run (): unknown {
    const idempotent = this.#idempotent
    if (idempotent === null) return this.#handle()
    return this.#withKey(idempotent, performance.now()).catch((error) => this.#failed(error))
  }

  /** @param since performance.now() when it began to wait for the key */
  async #withKey (idempotent: IdempotentRequest, since: number): Promise<unknown> {
    try {
      if (!await idempotent.begin(this.#host.session(), this.reply)) return idempotent.replay(this.reply)
    } catch (error) {
      // Under REPEATABLE READ the row of a concurrent request, which is committed now, is seen by a new transaction.
      const isTooLate = performance.now() - since > longestConflict
      if (conflictIn(error) === null || this.#obstacle !== null || isTooLate) throw error
      await this.scope!.session.end('rollback')
      this.#restart()
      return this.#withKey(idempotent, since)
    }
    const result = this.#handle()
    return result === undefined ? this.reply : result
  }

  /** A response has passed its serialization. @returns the payload to send */
  pass (payload: unknown): unknown {
    return this.#idempotent === null ? payload : this.#idempotent.pass(this.reply, payload)
  }

  /** COMMIT is about to be sent. */
  saveAnswer (session: ManagedSession): void {
    this.#idempotent?.save(session)
  }

  #handle (): unknown {
    const attempt: Attempt = { successor: null }
    this.#current = attempt
    let result: unknown
    try {
      result = this.#host.handle()
    } catch (error) {
      return this.#failed(error)
    }
    if (result === this.reply || !isPromiseLike(result)) return result
    return result.then((payload) => {
      if (attempt.successor !== null) return attempt.successor
      // The handler called reply.send() and returned nothing: without the reply, Fastify would send an empty response
      // before the first one is committed.
      return payload === undefined && this.scope?.answered === true ? this.reply : payload
    }, (error) => {
      if (attempt.successor === null) return this.#failed(error)
      this.reply.log.error({ err: error }, 'the handler failed after its attempt had failed')
      return attempt.successor
    })
  }

  async #failed (error: unknown): Promise<unknown> {
    if (!this.#mayRepeat(error, this.scope?.answered === true ? answeredMeanwhile : null)) throw error
    return this.#repeat(error)
  }

  /** Decides whether the handler runs again. If not, an error that makes one expect it says why. */
  #mayRepeat (error: unknown, known: string | null): boolean {
    const retries = this.#retries
    if (retries === null || !retries.isConflict(error, this.scope?.session.failure ?? null)) return false
    // The attempts of that engine decide.
    if (this.scope === null && this.#host.usesOtherEngine()) return false
    const obstacle = known ?? this.#found() ?? retries.limit
    if (obstacle !== null) retries.explain(error, obstacle)
    return obstacle === null
  }

  /** Why the handler cannot run again now, or null. */
  #found (): string | null {
    const { reply } = this
    const { request: { raw, body } } = reply
    if (this.#obstacle !== null) return this.#obstacle
    if (reply.sent || reply.raw.headersSent) return 'the response was already sent'
    if (isOver(reply.raw) && !this.#host.outlivesClient) return 'the client had disconnected'
    if (this.scope?.session.hasCommitted === true) return committedInPart
    if (isStream(body) || (this.#mayReadBody && raw.readableDidRead)) return 'its body was a stream'
    return this.#host.usesOtherEngine() ? 'the request uses another database too' : null
  }

  /** No further attempt is made. Ends the delay before the next one. */
  stop (why: string): void {
    this.#obstacle ??= why
    this.#endDelay?.()
  }

  /** The client has disconnected. */
  disconnected (): void {
    if (!this.#host.outlivesClient) this.stop('the client had disconnected')
  }

  /**
   * A response is being sent while no attempt is running: handlerTimeout has elapsed, for example.
   *
   * @param thrown an error was thrown in the meantime: its answer is sent
   * @returns true if it is not to be sent: it is a success of the failed attempt, or the empty response that Fastify
   * sends for an async error handler that returns nothing
   */
  isAnsweredMeanwhile (payload: unknown, thrown: boolean): boolean {
    if (!this.#isBetween) return false
    if (payload === undefined) return true
    if (thrown || this.reply.statusCode >= 400) {
      this.stop(answeredMeanwhile)
      return false
    }
    discard(payload)
    this.reply.log.error('the handler sent a response after its attempt had failed: it is not sent')
    return true
  }

  /**
   * Runs the handler again, if that may help, and sends its response in place of one that is about to be sent.
   *
   * @returns whether it does: then nothing else may be sent
   */
  repeats (error: unknown, payload: unknown, work: RequestWork): boolean {
    if (!this.#mayRepeat(error, null)) return false
    work.state = 'given up'
    work.thrown = false
    discard(payload)
    this.#current.successor = this.#repeatInPlace(error)
    return true
  }

  async #repeatInPlace (error: unknown): Promise<FastifyReply> {
    const { reply } = this
    await this.#repeat(error).then((payload) => {
      // As Fastify does for the promise of a handler.
      const isUnused = payload === undefined && (reply.raw.headersSent || isOver(reply.raw))
      if (!reply.sent && !isUnused) reply.send(payload)
      else if (this.#host.outlivesClient) this.scope?.handled()
    }).catch((error) => {
      if (reply.sent) return reply.log.error({ err: error }, 'the handler failed after its request was answered')
      announceError(reply)
      reply.send(error)
    })
    return reply
  }

  /** The scope goes on in a new session. */
  #restart (): void {
    const session = this.#host.newSession()
    session.attempt = this.#retries?.attempt ?? 1
    this.scope!.restart(session)
  }

  /** @returns the result of the next attempt, in which the reply stands for "later" */
  async #repeat (error: unknown): Promise<unknown> {
    const session = this.scope?.session
    const retries = this.#retries!
    // The session forgets its failure as it ends.
    const conflict = conflictIn(error) === null ? session?.failure : error
    this.#isBetween = true
    try {
      this.#before.restore()
      await session?.end('rollback', attemptEnded()).catch(() => {})
      const obstacle = this.#found() ?? retries.limit ?? await this.#delay(retries, conflict)
      if (obstacle !== null) throw retries.explain(error, obstacle)
    } finally {
      this.#isBetween = false
    }
    // Again: the failed attempt may have gone on during the delay.
    this.#before.restore()
    retries.next()
    const result = this.#next()
    return result === undefined ? this.reply : result
  }

  /** @returns why the handler cannot run again after the delay, or null */
  async #delay (retries: Retries, conflict: unknown): Promise<string | null> {
    const { raw } = this.reply
    // Without a scope nothing else follows the response.
    const closed = (): void => this.disconnected()
    raw.on('close', closed)
    const elapsed = await retries.delay(conflict, (stop) => { this.#endDelay = stop })
    raw.off('close', closed)
    this.#endDelay = null
    return this.#found() ?? (elapsed ? null : retries.limit)
  }
}

function attemptEnded (): Error {
  return pgScopeError('FST_PG_SCOPE_SESSION_CLOSED', 'This attempt of the handler has ended, because a concurrent ' +
    'transaction prevented its commit, and the handler is run again (`retry`). Await everything that the handler ' +
    'starts.')
}
