import { pgScopeError, type PgScopeError } from '../errors.ts'
import { kindOf } from '../kind-of.ts'
import { whenOver } from '../one-listener.ts'
import { invalidQuery } from './invalid-query.ts'

const noop = (): void => {}

/**
 * The `signal` of one call of query(), or of stream() with all of its statements. Where the call stands decides what an abort does:
 *
 * - not written yet: it is never sent, and its caller is rejected at once;
 * - written: it is cancelled on the server, and the answer tells what has become of it. Nothing else that a caller waits for is under
 *   way then (see Outbox), so that the CancelRequest cannot hit another statement;
 * - answered: nothing.
 */
export class StatementSignal {
  readonly #signal: AbortSignal
  #error: PgScopeError | null = null
  #forget = noop

  /** @throws FST_PG_SCOPE_CANCELED where it was aborted already */
  constructor (signal: AbortSignal) {
    this.#signal = signal
    if (this.error !== null) throw this.error
  }

  /** What the caller is rejected with once the signal was aborted; null before. */
  get error (): PgScopeError | null {
    if (!this.#signal.aborted) return null
    this.#error ??= pgScopeError('FST_PG_SCOPE_CANCELED', 'The signal of this statement was aborted.', this.#signal.reason)
    return this.#error
  }

  listen (aborted: (error: PgScopeError) => void): void {
    this.#forget = whenOver(this.#signal, () => aborted(this.error!))
  }

  /** It is answered: an abort does nothing any more. */
  forget (): void {
    this.#forget()
    this.#forget = noop
  }
}

/** @throws FST_PG_SCOPE_QUERY_INVALID, FST_PG_SCOPE_CANCELED */
export function readSignal (signal: unknown): StatementSignal | null {
  if (signal === undefined) return null
  if (!(signal instanceof AbortSignal)) throw invalidQuery(`\`signal\` must be an AbortSignal, got ${kindOf(signal)}`)
  return new StatementSignal(signal)
}
