import { pgScopeError, type PgScopeError } from '../errors.ts'
import { kindOf } from '../kind-of.ts'
import { whenOver } from '../one-listener.ts'
import { invalidQuery } from './invalid-query.ts'

const noop = (): void => {}

/**
 * The `signal` of one query(), or of a stream() and all of its statements. The effect of an abort depends on the state
 * of the call:
 *
 * - not sent yet: it is never sent, and its promise rejects immediately;
 * - sent: it is cancelled on the server, and its answer decides the result. The pipeline sends no other caller's
 *   statement meanwhile, so the CancelRequest cannot cancel another statement;
 * - answered: an abort has no effect.
 */
export class StatementSignal {
  readonly #signal: AbortSignal
  #error: PgScopeError | null = null
  #stopListening = noop

  /** @throws FST_PG_SCOPE_CANCELED if the signal is aborted already */
  constructor (signal: AbortSignal) {
    this.#signal = signal
    if (this.error !== null) throw this.error
  }

  /** The error with which the call rejects once the signal is aborted; null before. */
  get error (): PgScopeError | null {
    if (!this.#signal.aborted) return null
    const { reason } = this.#signal
    this.#error ??= pgScopeError('FST_PG_SCOPE_CANCELED', 'The signal of this statement was aborted.', reason)
    return this.#error
  }

  listen (aborted: (error: PgScopeError) => void): void {
    this.#stopListening = whenOver(this.#signal, () => aborted(this.error!))
  }

  /** Stops listening: the call is answered. */
  release (): void {
    this.#stopListening()
    this.#stopListening = noop
  }
}

/** @throws FST_PG_SCOPE_QUERY_INVALID, FST_PG_SCOPE_CANCELED */
export function readSignal (signal: unknown): StatementSignal | null {
  if (signal === undefined) return null
  if (!(signal instanceof AbortSignal)) throw invalidQuery(`\`signal\` must be an AbortSignal, got ${kindOf(signal)}`)
  return new StatementSignal(signal)
}
