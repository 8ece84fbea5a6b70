import type { ForLibraries } from '../library-session.ts'
import type { Savepoint, Session } from '../../types/session.ts'
import { ClientTransaction } from './clients/client-transaction.ts'
import { openSavepoint } from './imperative-savepoint.ts'
import { NestedTransactions } from './nested-transactions.ts'
import { type OwnSession, wholeSession } from './clients/own-session.ts'
import type { Fate } from './savepoint.ts'
import type { SavepointHost } from './savepoint-ends.ts'
import type { SessionTransactions } from './session-transactions.ts'
import type { StatementOrder } from './statement-order.ts'

/** The session whose savepoints these are. */
export type SavepointSession = Pick<
  SavepointHost, 'session' | 'engine' | 'savepoints' | 'tooLateError' | 'reportsFailures'
> & {
  /** Why a call is rejected, or null. */
  callError (): Error | null
  invalid (error: Error): void
}

/** The calls of a session that open savepoints: transaction(fn), savepoint(), and BEGIN of a library. */
export class SavepointCalls {
  readonly #session: SavepointSession
  readonly #host: SavepointHost
  readonly #nested: NestedTransactions

  constructor (session: SavepointSession, transactions: SessionTransactions, order: StatementOrder) {
    const { engine, savepoints } = session
    this.#session = session
    this.#host = {
      session: session.session,
      engine,
      savepoints,
      hooks: transactions.hooks,
      unawaited: transactions.unawaited,
      streams: () => transactions.streams,
      transaction: () => transactions.current,
      failure: () => transactions.failure,
      tooLateError: () => session.tooLateError(),
      reportsFailures: () => session.reportsFailures(),
      modes: () => transactions.modes,
      send: (text, isOutside) => order.send(text, isOutside),
      fail: (error) => order.fail(error),
      discardUnsent: () => transactions.discardUnsent()
    }
    this.#nested = new NestedTransactions(this.#host)
  }

  /** Made when it is asked for: few sessions have a library. */
  get forLibraries (): ForLibraries {
    const host = this.#host
    return {
      get modes () { return host.modes() },
      transaction: (isWhole = false, home) => {
        const late = this.#session.callError()
        if (late !== null) throw late
        const own = isWhole ? wholeSession(host.session as OwnSession['session']) : null
        return new ClientTransaction(host, own, home ?? null)
      },
      invalid: (error) => this.#session.invalid(error)
    }
  }

  get isCallerInside (): boolean {
    return this.#host.savepoints.isCallerInside
  }

  fateOfCaller (): Fate | null {
    return this.#host.savepoints.fateOfCaller()
  }

  transaction<T> (fn: (session: Session) => Promise<T> | T): Promise<T> {
    return this.#nested.run(fn)
  }

  /** A client's transaction for all of this session. */
  forClient (own: OwnSession): ClientTransaction {
    return new ClientTransaction(this.#host, own, null)
  }

  /** @param isOnServer false: it is all of a session that was not used before, and nothing is sent for it */
  savepoint (name?: string, isOnServer = true): Promise<Savepoint> {
    return openSavepoint(this.#host, name, isOnServer)
  }
}
