import { pgScopeError } from '../errors.ts'
import { kindOf } from '../kind-of.ts'
import type { Savepoint as PublicSavepoint } from '../../types/session.ts'
import { ObservedPromise } from '../observed-promise.ts'
import { isIdentifier, longestIdentifier } from '../postgres/identifier.ts'
import { Savepoint } from './savepoint.ts'
import {
  openInTurn, releaseSavepoint, reportUnlessAwaited, type SavepointHost, undoSavepoint
} from './savepoint-ends.ts'

/** The error for a name that PostgreSQL does not accept, or null. */
export function invalidName (name: unknown): Error | null {
  if (name === undefined || isIdentifier(name)) return null
  const got = typeof name === 'string' && name !== '' ? 'a longer one, or one with a zero byte' : kindOf(name)
  return pgScopeError('FST_PG_SCOPE_QUERY_INVALID', '`savepoint(name)`: `name` must be a string of 1 to ' +
    `${longestIdentifier} bytes without a zero byte, or undefined, got ${got}.`)
}

/**
 * A call of savepoint(), whose turn may have to come first.
 *
 * @param isOnServer false: the transaction itself is meant, and no SAVEPOINT is sent
 */
export function openSavepoint (host: SavepointHost, name?: string, isOnServer = true): Promise<PublicSavepoint> {
  const { savepoints } = host
  const savepoint = new Savepoint(savepoints, isOnServer)
  savepoint.hooks = host.hooks.count
  return openInTurn(host, (resolve) => {
    savepoints.open(savepoint, name)
    resolve(new ImperativeSavepoint(host, savepoint))
  })
}

/** What savepoint() resolves to: a savepoint that its caller ends. */
class ImperativeSavepoint implements PublicSavepoint {
  readonly name: string
  readonly #host: SavepointHost
  readonly #savepoint: Savepoint

  constructor (host: SavepointHost, savepoint: Savepoint) {
    this.name = savepoint.name
    this.#host = host
    this.#savepoint = savepoint
  }

  release (): Promise<void> {
    return this.#end('release', () => this.#misuse('release'), () => releaseSavepoint(this.#host, this.#savepoint))
  }

  rollback (): Promise<void> {
    return this.#end('rollback', () => this.#misuse('rollback'), () => undoSavepoint(this.#host, this.#savepoint))
  }

  /** Leaves nothing open, even if an error has prevented the end of savepoints that were opened later. */
  async [Symbol.asyncDispose] (): Promise<void> {
    if (this.#savepoint.isEnded || this.#host.tooLateError() !== null) return
    await this.#end('rollback', () => null, async () => {
      if (this.#savepoint.isEnded) return
      this.#host.savepoints.endOpen(null, this.#savepoint)
      await undoSavepoint(this.#host, this.#savepoint)
    })
  }

  #end (call: 'release' | 'rollback', misuse: () => Error | null, end: () => Promise<void>): Promise<void> {
    const host = this.#host
    const { savepoints } = host
    const savepoint = this.#savepoint
    let settle!: { resolve: () => void, reject: (error: unknown) => void }
    const promise = new ObservedPromise<void>((resolve, reject) => { settle = { resolve, reject } })
    const fail = (error: unknown): void => {
      reportUnlessAwaited(host, savepoints.top, promise, error)
      settle.reject(error)
    }
    const start = (): void => {
      const error = host.tooLateError() ?? misuse()
      if (error !== null) return fail(error)
      savepoints.hold()
      end().then(() => {
        if (!savepoint.isEnded) savepoints.leave(savepoint)
        settle.resolve()
      }, fail).then(() => savepoints.proceed())
    }
    const inside = this.#calledInside(call)
    if (inside !== null) fail(inside)
    // The caller may have lost the async context of the transaction(fn) that the savepoint was opened in.
    else if (savepoint.frame === null || savepoint.isEnded) savepoints.inTurn(start)
    else savepoint.frame.run(() => savepoints.inTurn(start))
    return promise
  }

  /** The error of a call that would wait for the transaction(fn) that it is made in, or null. */
  #calledInside (call: string): Error | null {
    const savepoint = this.#savepoint
    const frame = this.#host.savepoints.callersFrame()
    if (savepoint.isEnded || frame === null || !frame.isWithin(savepoint)) return null
    return sessionState(`${call}() of ${savepoint.label} was called in fn of a ${frame.label} that was opened inside ` +
      'of it. Let fn settle first.')
  }

  #misuse (call: string): Error | null {
    const savepoint = this.#savepoint
    const { top } = this.#host.savepoints
    if (savepoint.isEnded) {
      return sessionState(`${call}() was called on ${savepoint.label} after its end: it was released or rolled back, ` +
        'or what is around it (a transaction(fn), the transaction) has ended. Call release() or rollback() once.')
    }
    if (top === null || top === savepoint) return null
    return sessionState(`${call}() was called on ${savepoint.label} while ${top.label}, which was opened later, is ` +
      'still open. End the later one first.')
  }
}

function sessionState (details: string): Error {
  return pgScopeError('FST_PG_SCOPE_SESSION_STATE', details)
}
