import type { FastifyReply } from 'fastify'
import { bindToContext } from '../async-context.ts'
import { attemptEnded, type Retries } from '../engine/retries.ts'
import { isPromiseLike } from '../kind-of.ts'
import { conflictIn } from '../postgres/sqlstate.ts'
import type { ManagedSession } from '../session/managed-session.ts'
import { AttemptDelay } from './attempt-delay.ts'
import type { AttemptHost } from './attempt-host.ts'
import { AttemptReply, ownReply } from './attempt-reply.ts'
import { isOver } from './delivery.ts'
import type { IdempotentRequest } from './idempotent-request.ts'
import { runWithKey } from './key-wait.ts'
import { answeredMeanwhile, Obstacles } from './obstacles.ts'
import { discard } from './payload.ts'
import { announceError, awaitOnce, ReplyState } from './reply-state.ts'
import type { RequestWork } from './request-work.ts'

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

/** One run of the handler, from the wait for its idempotency key on. */
interface Attempt {
  /** What it sees of the reply. Null if it is the only attempt: the reply itself. */
  readonly reply: AttemptReply | null
  /** What follows it, if it failed while the handler was running or had answered: settles once that has answered. */
  successor: Promise<unknown> | null
}

/**
 * The attempts of the handler of one request, with the option `retry`. An attempt whose transaction fails because of a
 * concurrent one is undone, the reply included, and the handler runs again:
 *
 *     handler throws, or its promise rejects ──► failed() ──┐
 *     the error of its response is about to reach           ├─► mayRepeat() ─► roll back, delay, next attempt
 *     the error handlers (onError hook) ───────► fails() ───┤
 *     its success is refused, or by COMMIT,                 │
 *     behind all other hooks (RequestScope) ───► repeats() ─┘
 *
 * An attempt that is repeated has no other response on its way: one that has sent two is not repeated, and error
 * handlers run after the last attempt alone. COMMIT stays behind all hooks of the response: until it has succeeded,
 * nothing is sent.
 */
export class HandlerAttempts {
  /** That of the request. */
  readonly reply: FastifyReply
  /** What the handler would see of it without this plugin: of another engine's attempts, maybe. */
  readonly #given: FastifyReply
  /** Null until the session of the request is used. */
  scope: AttemptScope | null = null
  readonly #host: AttemptHost
  /** Null without the option `retry`. */
  readonly #retries: Retries | null
  /** Null if the request has no idempotency key. */
  readonly #idempotent: IdempotentRequest | null
  #current: Attempt = { reply: null, successor: null }
  #before!: ReplyState
  /** Begins the next attempt, in the async context of the first one. Null if there can be none. */
  #next: (() => unknown) | null = null
  readonly #obstacles: Obstacles
  readonly #delay: AttemptDelay
  #isBetween = false

  constructor (host: AttemptHost, retries: Retries | null, idempotent: IdempotentRequest | null, reply: FastifyReply) {
    this.#host = host
    this.#idempotent = idempotent
    this.#retries = retries
    this.#given = reply
    this.reply = ownReply(reply)
    this.#obstacles = new Obstacles(host, this.reply)
    this.#delay = new AttemptDelay(this.reply.raw, () => this.closed())
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
    if (this.scope?.session.unused === false) this.#obstacles.add('a statement ran before the handler')
    if (this.#retries !== null) {
      awaitOnce(this.reply)
      this.#next = bindToContext(() => {
        if (this.scope !== null) this.#restart()
        return this.#run()
      })
    }
    this.#before = new ReplyState(this.reply)
    return this.#run()
  }

  #run (): unknown {
    const reply = this.#retries === null ? null : new AttemptReply(this.#given)
    this.#current = { reply, successor: null }
    const idempotent = this.#idempotent
    if (idempotent === null) return this.#handle()
    return runWithKey(idempotent, {
      reply: this.reply,
      session: () => this.#host.session(),
      startOver: async () => {
        await this.scope!.session.end('rollback')
        this.#restart()
      },
      isEnded: () => this.#obstacles.areLasting,
      handle: () => this.#handle()
    }).catch((error) => this.#failed(error))
  }

  /** A response has passed its serialization. @returns the payload to send */
  pass (payload: unknown): unknown {
    const { reply } = this.#current
    // It may be that of a timer, of another plugin for example.
    if (reply !== null) reply.responses ||= 1
    return this.#idempotent === null ? payload : this.#idempotent.pass(this.reply, payload)
  }

  /** COMMIT is about to be sent. */
  saveAnswer (session: ManagedSession): void {
    this.#idempotent?.save(session)
  }

  #handle (): unknown {
    const attempt = this.#current
    const { reply } = attempt
    let result: unknown
    try {
      result = this.#host.handle(reply?.seen ?? this.#given)
    } catch (error) {
      return this.#failed(error)
    }
    if (result === this.#given || result === reply?.seen) return this.reply
    if (!isPromiseLike(result)) {
      if (result !== undefined && reply !== null) reply.responses++
      return result
    }
    return result.then((payload) => {
      if (attempt.successor !== null) return attempt.successor
      if (payload !== undefined) {
        if (reply !== null) reply.responses++
        return payload
      }
      // The handler called reply.send() and returned nothing: without the reply, Fastify would send an empty response
      // before the first one is committed.
      return this.scope?.answered === true || (reply !== null && reply.responses > 0) ? this.reply : payload
    }, (error) => {
      if (attempt.successor === null) return this.#failed(error)
      this.reply.log.error({ err: error }, 'the handler failed after its attempt had failed')
      return attempt.successor
    })
  }

  async #failed (error: unknown): Promise<unknown> {
    const { scope } = this
    const hasSent = this.#responses > 0
    if (hasSent && scope?.answered === false && conflictIn(scope.session.failure) !== null) {
      // Its response is still passing through other hooks. At their end it is refused, and the handler runs again.
      return this.reply
    }
    if (!this.#mayRepeat(error, hasSent || scope?.answered === true ? answeredMeanwhile : null)) throw error
    return this.#repeat(error)
  }

  /** How many responses the current attempt has begun to send. */
  get #responses (): number {
    return this.#current.reply?.responses ?? 0
  }

  /**
   * An error is about to reach the error handlers: that of a response, or one that #failed() has let pass.
   *
   * @returns whether the handler runs again in place of them
   */
  fails (error: unknown): boolean {
    const isOfAttempt = this.#responses === 1 && this.scope?.answered !== true
    if (!this.#isBetween && this.#mayRepeat(error, isOfAttempt ? null : answeredMeanwhile)) {
      this.#current.successor = this.#repeatInPlace(error)
      return true
    }
    // The error handlers answer.
    this.#obstacles.add(answeredMeanwhile)
    return false
  }

  get #obstacle (): string | null {
    return this.#obstacles.find(this.scope?.session)
  }

  /** Decides whether the handler runs again. If not, an error that makes one expect it says why. */
  #mayRepeat (error: unknown, known: string | null): boolean {
    const retries = this.#retries
    if (retries === null || !retries.isConflict(error, this.scope?.session.failure ?? null)) return false
    // The attempts of that engine decide.
    if (this.scope === null && this.#host.usesOtherEngine()) return false
    const obstacle = known ?? this.#obstacle ?? retries.limit
    if (obstacle !== null) retries.explain(error, obstacle)
    return obstacle === null
  }

  /** No further attempt is made. Ends the delay before the next one. */
  stop (why: string): void {
    this.#obstacles.add(why)
    this.#delay.end()
  }

  /** The response was sent, or the client has disconnected. Before Node 24, `#next` lets its request grow old. */
  closed (): void {
    if (this.#host.outlivesClient) return
    this.stop('the client had disconnected')
    this.#next = null
  }

  /**
   * A response is being sent while no attempt is running. It is not that of the failed attempt, but of handlerTimeout
   * or of a timer that a hook has set.
   *
   * @param thrown an error was thrown in the meantime: its answer is sent
   * @returns true if it is not to be sent: a success, behind which no work is
   */
  isAnsweredMeanwhile (payload: unknown, thrown: boolean): boolean {
    if (!this.#isBetween) return false
    if (thrown || this.reply.statusCode >= 400) {
      this.stop(answeredMeanwhile)
      return false
    }
    discard(payload)
    this.reply.log.error('a success was sent after the attempt of the handler had failed: it is not sent')
    return true
  }

  /**
   * Runs the handler again, if that may help, and sends its response in place of one that is about to be sent.
   *
   * @returns whether it does: then nothing else may be sent
   */
  repeats (error: unknown, payload: unknown, work: RequestWork): boolean {
    if (!this.#mayRepeat(error, this.#responses > 1 ? answeredMeanwhile : null)) return false
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
    const conflict = conflictIn(error) === null ? session?.failure : error // forgotten as the session ends
    this.#isBetween = true
    this.#current.reply?.detach()
    try {
      this.#before.restore()
      await session?.end('rollback', attemptEnded()).catch(() => {})
      const known = this.#obstacle ?? retries.limit
      const elapsed = known === null && await this.#delay.elapses(retries, conflict)
      const obstacle = known ?? this.#obstacle ?? (elapsed ? null : retries.limit)
      if (obstacle !== null) throw retries.explain(error, obstacle)
    } finally {
      this.#isBetween = false
    }
    this.#before.restore() // again: the failed attempt may have gone on during the delay
    retries.next()
    const result = this.#next!()
    return result === undefined ? this.reply : result
  }
}
