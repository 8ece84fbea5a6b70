import type { FastifyReply } from 'fastify'
import { pgScopeError } from '../errors.ts'
import { committedInPart, type Retries } from '../engine/retries.ts'
import { isPromiseLike } from '../kind-of.ts'
import { conflictIn } from '../postgres/sqlstate.ts'
import type { ManagedSession } from '../session/managed-session.ts'
import { isOver } from './delivery.ts'
import type { IdempotentRequest } from './idempotent-request.ts'
import { announceError, ReplyState } from './reply-state.ts'
import { isStream } from './reply-stream.ts'
import type { RequestWork } from './request-work.ts'

/** Why a handler is not run again, as a part of a sentence. */
export const answeredMeanwhile = 'the request was answered in the meantime'

/** How long a key is asked for again after conflicts. Milliseconds. */
const longestConflict = 5000

/** What a HandlerRun needs of its request. */
export interface HandlerCall {
  /** Calls the handler. */
  call (): unknown
  /** The session of this run, which is made if the request has not used it. */
  session (): ManagedSession
  /** Opens the session of the next run. */
  newSession (): ManagedSession
  /** Another engine has a session of this request: its work would be done twice. */
  usesOtherEngine (): boolean
}

/** The request whose handler runs, once its session is used. */
export interface RunScope {
  readonly session: ManagedSession
  run: HandlerRun | null
  /** A response is on its way. */
  readonly answered: boolean
  /** The next run begins, in this session. */
  restart (session: ManagedSession): void
}

/**
 * The runs of the handler of one request, with the option `retry`. An attempt whose transaction fails because of a
 * concurrent one is undone, the reply included, and the handler runs again:
 *
 *     handler throws, or its promise rejects ──► failed() ──┐
 *     an error, or a success that COMMIT refuses, is        ├─► permits() ─► roll back, delay, next attempt
 *     about to be sent (RequestScope) ─────────► repeats() ─┘
 *
 * COMMIT stays behind all hooks of the response: until it has succeeded, nothing is sent.
 */
export class HandlerRun {
  readonly reply: FastifyReply
  /** Null until the session of the request is used. */
  scope: RunScope | null = null
  readonly #call: HandlerCall
  /** Null without the option `retry`. */
  readonly #retries: Retries | null
  /** Null if the request has no idempotency key. */
  readonly #idempotent: IdempotentRequest | null
  #before!: ReplyState
  /** Why no further attempt is made, or null. */
  #obstacle: string | null = null
  /** Ends the delay before the next attempt. Null if no delay is running. */
  #endDelay: (() => void) | null = null
  #isBetween = false

  constructor (
    call: HandlerCall, retries: Retries | null, idempotent: IdempotentRequest | null, reply: FastifyReply
  ) {
    this.#call = call
    this.#idempotent = idempotent
    this.#retries = retries
    this.reply = reply
  }

  /** The session of the request is used. */
  use (scope: RunScope): FastifyReply {
    this.scope = scope
    scope.run = this
    return this.reply
  }

  /** @returns what Fastify expects of a handler */
  start (): unknown {
    if (this.scope?.session.unused === false) this.#obstacle = 'a statement ran before the handler'
    this.#before = new ReplyState(this.reply)
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
      if (!await idempotent.begin(this.#call.session(), this.reply)) return idempotent.replay(this.reply)
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
    let result: unknown
    try {
      result = this.#call.call()
    } catch (error) {
      return this.#failed(error)
    }
    if (result === this.reply || !isPromiseLike(result)) return result
    // The handler called reply.send() and returned nothing: without the reply, Fastify would send an empty response
    // before the first one is committed.
    return result.then((payload) => payload === undefined && this.scope?.answered === true ? this.reply : payload,
      (error) => this.#failed(error))
  }

  async #failed (error: unknown): Promise<unknown> {
    const permitted = this.permits(error, this.scope?.answered === true ? answeredMeanwhile : null)
    if (!permitted) throw error
    return this.#repeat(error)
  }

  /**
   * Whether the handler may run again. If not, an error that makes one expect it says why.
   *
   * @param obstacle why not, as far as the caller knows, or null
   */
  permits (error: unknown, obstacle: string | null): boolean {
    const failure = this.scope?.session.failure ?? null
    return this.#retries !== null && this.#retries.permits(error, failure, obstacle ?? this.#found())
  }

  /** Why the handler cannot run again now, or null. */
  #found (): string | null {
    const { reply } = this
    if (this.#obstacle !== null) return this.#obstacle
    if (reply.sent || reply.raw.headersSent) return 'the response was already sent'
    if (isOver(reply.raw)) return 'the client had disconnected'
    if (this.scope?.session.hasCommitted === true) return committedInPart
    return this.#call.usesOtherEngine() ? 'the request uses another database too' : null
  }

  /** No further attempt is made. Ends the delay before the next one. */
  stop (why: string): void {
    this.#obstacle ??= why
    this.#endDelay?.()
  }

  /**
   * A response is being sent while no attempt is running: handlerTimeout has elapsed, for example.
   *
   * @returns true if it is none: Fastify sends an empty one for an async error handler that returns nothing
   */
  isAnsweredMeanwhile (payload: unknown): boolean {
    if (!this.#isBetween) return false
    if (payload === undefined) return true
    this.stop(answeredMeanwhile)
    return false
  }

  /**
   * Runs the handler again, if that may help, and sends its response in place of one that is about to be sent.
   *
   * @returns whether it does: then nothing else may be sent
   */
  repeats (error: unknown, payload: unknown, work: RequestWork): boolean {
    if (!this.permits(error, isStream(payload) ? 'the response is a stream' : null)) return false
    work.state = 'given up'
    this.#repeatInPlace(error)
    return true
  }

  #repeatInPlace (error: unknown): void {
    const { reply } = this
    this.#repeat(error).then((payload) => {
      // As Fastify does for the promise of a handler.
      const isUnused = payload === undefined && (reply.raw.headersSent || isOver(reply.raw))
      if (!reply.sent && !isUnused) reply.send(payload)
    }).catch((error) => {
      if (reply.sent) return reply.log.error({ err: error }, 'the handler failed after its request was answered')
      announceError(reply)
      reply.send(error)
    })
  }

  /** The scope goes on in a new session. */
  #restart (): void {
    const session = this.#call.newSession()
    session.attempt = this.#retries?.attempt ?? 1
    this.scope!.restart(session)
  }

  /** @returns the result of the next attempt, in which the reply stands for "later" */
  async #repeat (error: unknown): Promise<unknown> {
    const { scope } = this
    this.#isBetween = true
    this.#before.restore()
    await scope?.session.end('rollback', attemptEnded()).catch(() => {})
    const retries = this.#retries!
    const elapsed = await retries.delay(error, (stop) => {
      this.#endDelay = stop
      if (this.#obstacle !== null) stop()
      return () => { this.#endDelay = null }
    })
    this.#isBetween = false
    const obstacle = this.#found()
    if (obstacle !== null) retries.explain(error, obstacle)
    if (!elapsed || obstacle !== null) throw error
    retries.next()
    if (scope !== null) this.#restart()
    const result = this.#run()
    return result === undefined ? this.reply : result
  }
}

function attemptEnded (): Error {
  return pgScopeError('FST_PG_SCOPE_SESSION_CLOSED', 'This attempt of the handler has ended, because a concurrent ' +
    'transaction prevented its commit, and the handler is run again (`retry`). Await everything that the handler ' +
    'starts.')
}
