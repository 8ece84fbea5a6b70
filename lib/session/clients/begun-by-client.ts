import { unfinishedError } from './client-errors.ts'
import type { OwnSession, OwnTransaction } from './own-session.ts'
import type { ScopedSession } from '../scoped-session.ts'

/** The transaction that a client has begun in mode 'autocommit': until its end, every call on the session joins it. */
export class BegunByClient implements OwnSession {
  readonly session: ScopedSession
  /** COMMIT or ROLLBACK was called: resolves at its end. */
  left: Promise<void> | null = null
  readonly whenFree: OwnSession['whenFree']
  readonly report: OwnSession['report']
  readonly resume: OwnSession['resume']
  readonly #host: Pick<OwnSession, 'began' | 'ended'>
  #transaction: OwnTransaction | null = null
  #over = (): void => {}

  constructor (session: ScopedSession, host: Omit<OwnSession, 'session' | 'leaving'>) {
    this.session = session
    this.whenFree = host.whenFree
    this.report = host.report
    this.resume = host.resume
    this.#host = host
  }

  get mayEnclose (): boolean {
    return this.#transaction?.mayEnclose === true
  }

  began (transaction: OwnTransaction): void {
    this.#transaction = transaction
    this.#host.began(transaction)
  }

  /** COMMIT may have to wait for transactions inside of it, whose calls must not wait for COMMIT. */
  get ending (): Promise<void> | null {
    return this.#transaction?.isInnermost === true ? this.left : null
  }

  leaving (leaves: boolean): void {
    if (leaves) this.left ??= new Promise((resolve) => { this.#over = resolve })
    else {
      this.left = null
      this.#over()
    }
  }

  ended (proceed: () => void): void {
    this.#host.ended(proceed)
    this.leaving(false)
  }

  /** The session ends, or ends the transaction by commit() or rollback(). */
  async end (outcome: 'commit' | 'rollback'): Promise<void> {
    if (outcome === 'commit') throw unfinishedError()
    this.leaving(true)
    this.#transaction?.lose()
    try {
      await this.session.end('rollback')
    } finally {
      this.ended(() => {})
    }
  }

  unfinished (): Error {
    return unfinishedError()
  }
}
