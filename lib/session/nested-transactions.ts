import type { Session } from '../../types/session.ts'
import type { ObservedPromise } from '../observed-promise.ts'
import { runInSession } from './current-session.ts'
import { NestedSession } from './nested-session.ts'
import type { Frame } from './savepoint.ts'
import {
  openInTurn, releaseSavepoint, reportUnlessAwaited, type SavepointHost, undoSavepoint
} from './savepoint-ends.ts'

/** How many calls of fn may start inside each other on one stack. */
const maxStarting = 50

/**
 * The calls of transaction(fn) in one session. Each is a savepoint: released when fn resolves, rolled back when it
 * rejects.
 */
export class NestedTransactions {
  readonly #host: SavepointHost
  /** How many calls of fn are starting on the current stack: fn may call transaction(fn) before it returns. */
  #starting = 0

  constructor (host: SavepointHost) {
    this.#host = host
  }

  run<T> (fn: (session: Session) => Promise<T> | T): Promise<T> {
    const host = this.#host
    const { savepoints } = host
    const promise: ObservedPromise<T> = openInTurn<T>(host, (resolve, reject) => {
      savepoints.enter((frame) => this.#run(frame, fn).then((result) => {
        resolve(result)
        savepoints.leaveHeld(frame)
      }, (error) => {
        reportUnlessAwaited(host, frame.parent, promise, error)
        reject(error)
        savepoints.leaveHeld(frame)
      }))
    })
    return promise
  }

  async #run<T> (frame: Frame, fn: (session: Session) => Promise<T> | T): Promise<T> {
    const { engine, session, savepoints, hooks } = this.#host
    frame.hooks = hooks.count
    let isEnding = false
    const end = async (): Promise<void> => {
      await savepoints.holdWhenInnermost(frame)
      isEnding = true
      savepoints.endOpen(frame.unawaited)
    }
    try {
      // Continues on a new stack; meanwhile only calls made inside fn proceed.
      if (this.#starting === maxStarting) await null
      const nested = new NestedSession(session, frame)
      const result = await this.#start(() => runInSession(engine, nested, () => fn(nested)))
      frame.fn = 'settled'
      await end()
      await releaseSavepoint(this.#host, frame)
      return result
    } catch (error) {
      frame.fn = 'rolledBack'
      frame.error = error
      if (!isEnding) await end()
      await undoSavepoint(this.#host, frame, error)
      throw error
    }
  }

  #start<T> (fn: () => T): T {
    this.#starting++
    try {
      return fn()
    } finally {
      this.#starting--
    }
  }
}
