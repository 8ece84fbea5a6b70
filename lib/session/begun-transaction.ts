import { pgScopeError } from '../errors.ts'
import type { Savepoint } from '../../types/session.ts'
import type { ScopedSession } from './scoped-session.ts'

/** What a begun transaction needs of its session in mode 'autocommit'. */
export interface BegunTransactionHost {
  /** Makes a failure that no caller awaits a failure of the session. */
  observe<T> (work: Promise<T>): Promise<T>
  /** Later calls do not belong to the transaction. */
  ended (transaction: BegunTransaction): void
}

/**
 * The transaction that savepoint() has begun in mode 'autocommit': until its end, every call on the session joins it,
 * as after BEGIN in psql. Within the session of the transaction it is the outermost savepoint, for which BEGIN stands.
 */
export class BegunTransaction implements Savepoint {
  readonly name: string
  readonly mayEnclose = true
  /** The session of this transaction alone. */
  readonly session: ScopedSession
  readonly #host: BegunTransactionHost
  readonly #savepoint: Promise<Savepoint>
  /** release() or rollback() in progress, or null. Resolves when it is over, whatever its outcome is. */
  #ending: Promise<void> | null = null
  #isEnded = false

  constructor (host: BegunTransactionHost, session: ScopedSession, name = 'scope_1') {
    this.name = name
    this.session = session
    this.#host = host
    // BEGIN stands for it: nothing is sent for a savepoint.
    this.#savepoint = session.savepointCalls.savepoint(name, false)
  }

  /** Later calls wait for it: they join the transaction only if it goes on. */
  get ending (): Promise<void> | null {
    return this.#ending
  }

  get left (): Promise<void> | null {
    return this.#ending
  }

  release (): Promise<void> {
    return this.#host.observe(this.#end('release', async () => {
      await (await this.#savepoint).release()
      await this.#finish('commit')
    }))
  }

  rollback (): Promise<void> {
    return this.#host.observe(this.#end('rollback', async () => {
      await (await this.#savepoint).rollback()
      await this.session.rollback()
      await this.#finish('rollback')
    }))
  }

  async [Symbol.asyncDispose] (): Promise<void> {
    if (this.#ending !== null) await this.#ending
    if (this.#isEnded || this.session.isClosed) return
    await this.#end('rollback', async () => {
      await (await this.#savepoint)[Symbol.asyncDispose]()
      await this.#finish('rollback')
    })
  }

  /** The session ends, or ends the transaction by commit() or rollback(). */
  end (outcome: 'commit' | 'rollback'): Promise<void> {
    return this.#end(outcome, async () => {
      if (outcome === 'commit') await this.session.commit().catch((error) => this.#refused(error))
      await this.#finish(outcome)
    })
  }

  /** commit() has failed. A COMMIT that the server has refused was the end of the transaction. */
  async #refused (error: unknown): Promise<never> {
    if (this.session.state === 'idle') await this.#finish('rollback')
    throw error
  }

  /** The error of a session that ends without it having been ended. */
  unfinished (): Error {
    return pgScopeError('FST_PG_SCOPE_TRANSACTION_ABORTED', `savepoint "${this.name}" began a transaction, as the ` +
      'mode is \'autocommit\', and neither release() nor rollback() has ended it: it is rolled back.')
  }

  async #end (call: string, end: () => Promise<void>): Promise<void> {
    if (this.#isEnded || this.#ending !== null) {
      throw pgScopeError('FST_PG_SCOPE_SESSION_STATE', `${call}() was called on savepoint "${this.name}" after its ` +
        'end: its transaction was committed or rolled back. Call release() or rollback() once.')
    }
    const work = end()
    this.#ending = work.then(() => {}, () => {}).then(() => { this.#ending = null })
    await work
  }

  async #finish (outcome: 'commit' | 'rollback'): Promise<void> {
    this.#isEnded = true
    try {
      await this.session.end(outcome)
    } finally {
      this.#host.ended(this)
    }
  }
}
