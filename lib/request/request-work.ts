import type { FastifyReply, FastifyRequest } from 'fastify'
import { pgScopeError } from '../errors.ts'
import { isPromiseLike } from '../kind-of.ts'
import type { SessionConfig } from '../config/session-config.ts'
import type { ManagedSession } from '../session/managed-session.ts'
import { asError } from '../exchange/transaction-errors.ts'
import { outcomeOf, type RequestOutcome } from './outcome.ts'

/**
 * - `open`: not decided
 * - `deciding`: commitIf has returned a promise
 * - `committing`: the response waits for COMMIT
 * - `committed`: a streamed body may still use the session
 * - `answer failed`: committed, and then an error replaced the response
 * - `left behind`: committed without a response that waits for it
 * - `given up`: rolled back
 */
export type WorkState =
  'open' | 'deciding' | 'committing' | 'committed' | 'answer failed' | 'left behind' | 'given up'

/** The work of one request. Its outcome is decided once: a later response changes nothing. */
export class RequestWork {
  session!: ManagedSession
  state: WorkState = 'open'
  /** Stops waiting for the promise of commitIf: an error replaces the response. */
  stopDeciding: (error: Error) => void = () => {}
  /** An error was thrown before the response was sent. */
  thrown = false
  readonly config: SessionConfig
  readonly #request: FastifyRequest

  constructor (request: FastifyRequest, config: SessionConfig) {
    this.#request = request
    this.config = config
  }

  /** @throws what the user's commitIf throws */
  outcome (reply: FastifyReply): ReturnType<typeof outcomeOf> {
    const { failure, rollbackOnly } = this.session
    return outcomeOf(
      { status: reply.statusCode, thrown: this.thrown, failed: failure !== null, rollbackOnly },
      this.config.commitIf && (() => this.config.commitIf!(this.#request, reply))
    )
  }

  /** commitIf returned a promise. Whatever cancels a COMMIT also stops this wait: the response is refused. */
  decide (
    outcome: PromiseLike<RequestOutcome>, settle: (outcome: RequestOutcome) => void, refuse: (error: Error) => void
  ): void {
    const decided = (next: () => void): void => {
      if (this.state !== 'deciding') return
      this.state = 'open'
      next()
    }
    this.state = 'deciding'
    this.stopDeciding = (error) => decided(() => refuse(asError(error)))
    outcome.then((outcome) => decided(() => settle(outcome)), this.stopDeciding)
  }

  get isEnded (): boolean {
    return this.session.state === 'closed' || this.state === 'given up' || this.state === 'left behind'
  }

  rollBack (reason?: Error): void {
    this.state = 'given up'
    this.session.end('rollback', reason).catch(() => {})
  }

  /** Ends the session, and with it the work of the request. @throws why nothing is committed */
  async settle (reply: FastifyReply): Promise<void> {
    if (this.state !== 'open') return
    this.state = 'committing'
    try {
      let outcome = this.outcome(reply)
      // Without the check, calls that follow in this turn of the event loop would still be accepted.
      if (isPromiseLike(outcome)) outcome = await outcome
      await this.session.end(outcome === 'rollback' ? 'rollback' : 'commit')
      this.state = 'committed'
    } catch (error) {
      this.rollBack()
      throw asError(error)
    }
  }

  /** Rolls back what is not committed: if COMMIT has not been sent, because statements are running, it never is. */
  cancel (what: string): void {
    const error = pgScopeError('FST_PG_SCOPE_CANCELED', `${what}: uncommitted work is rolled back.`)
    if (this.state === 'deciding') this.stopDeciding(error)
    else this.session.end('rollback', error).catch(() => {})
  }

  /**
   * Commits without a response that waits for it.
   *
   * @param repeats whether the work is done again after this failure of COMMIT
   */
  commitInBackground (repeats: (error: unknown) => boolean = () => false): void {
    if (this.state === 'given up' || this.state === 'left behind') return
    this.state = 'left behind'
    this.session.end('commit').catch((error) => {
      if (!repeats(error)) this.reportUncommitted(error)
    })
  }

  /**
   * The client has disconnected, and the work continues (onAbort 'commit').
   *
   * @param mayEnd whether it still decides
   * @param repeats whether the work is done again after this failure of COMMIT
   */
  async endWithoutClient (
    reply: FastifyReply, mayEnd: () => boolean, repeats: (error: unknown) => boolean
  ): Promise<void> {
    try {
      const outcome = await this.outcome(reply)
      if (!mayEnd()) return
      if (outcome === 'rollback') this.rollBack()
      else this.commitInBackground(repeats)
    } catch (error) {
      this.#request.log.error({ err: error }, 'commitIf failed, and no answer was waiting for it')
      this.rollBack()
    }
  }

  /** The response has ended without passing through this plugin's hooks. */
  rollBackHijacked (): void {
    // With an error, an earlier onSend hook has failed and Fastify has sent the error itself.
    if (!this.thrown && this.session.state !== 'idle') {
      this.#request.log.warn('the reply was hijacked, and its transaction is rolled back as the socket closes: ' +
        'call request.db.commit(), or do the work in app.db.scope()')
    }
    this.rollBack()
  }

  reportUncommitted (error: unknown): void {
    const { log } = this.#request
    if (this.session.losesNothing) {
      log.warn({ err: error }, 'a read-only transaction was not ended as it should: nothing is lost by it')
    } else log.error({ err: error }, 'COMMIT failed, and no answer was waiting for it')
  }

  /** Logs a failed statement that did not change the response: in mode 'autocommit' each statement is separate. */
  async reportFailedStatement (): Promise<void> {
    if (!this.session.unused) await this.session.end('commit').catch(() => {})
    const err = this.session.firstFailure
    if (err === null) return
    this.#request.log.warn({ err },
      'a statement failed, and the answer was a success all the same (mode: \'autocommit\')')
  }
}
