import { BoundedTurns } from './bounded-turns.ts'
import type { CallConfig } from '../../library-session.ts'
import { callAt, type Place } from './call-place.ts'
import { capturedValues } from '../captured-call.ts'
import { maxWait, waitedTooLong } from './client-errors.ts'
import type { OwnSession } from './own-session.ts'
import { ObservedPromise, type UnawaitedFailures } from '../../observed-promise.ts'
import type { Savepoint } from '../savepoint.ts'
import type { SavepointHost } from '../savepoint-ends.ts'
import type { Reject } from '../turns.ts'

const noop = (): void => {}

/** What a failure that no caller awaits belongs to. */
export interface Enclosing {
  readonly unawaited: UnawaitedFailures
}

/** What runs code as part of a transaction(fn). */
export interface Home {
  run<T> (fn: () => T): T
}

/** The transaction whose turns these are. */
export interface ClientSavepoint extends Savepoint {
  /** The transaction(fn) whose session the client uses, or in which it was begun, if calls must be made in it. */
  readonly home: Home | null
  /** BEGIN has had its turn. */
  readonly isOpen: boolean
  readonly isOver: boolean
  /** Why its calls are rejected, or null. */
  readonly gone: Error | null
  /** A call of its client was rejected. */
  refused (error: Error): void
}

/** When the calls of a client's transaction start, within the order of its session. */
export class ClientTurns {
  readonly #transaction: ClientSavepoint
  readonly #host: SavepointHost
  /** Calls that wait for BEGIN, or for the end of later transactions. */
  readonly #waiting = new BoundedTurns(maxWait, waitedTooLong, () => this.#isBusy)
  /** Calls of its client that follow its end. */
  readonly #following = new BoundedTurns(maxWait, waitedTooLong, () => this.#isBusy)
  /** BEGINs of other clients that follow its end. */
  readonly #others = new BoundedTurns(maxWait, waitedTooLong, () => this.#isBusy)

  constructor (transaction: ClientSavepoint, host: SavepointHost) {
    this.#transaction = transaction
    this.#host = host
  }

  /** The wait for BEGIN has a limit of its own. */
  get #isBusy (): boolean {
    return !this.#transaction.isOpen || this.#host.transaction()?.isIdle === false
  }

  /** The place of what is around the transaction: it waits for transaction(fn) alone. */
  readonly around: Place = (start, reject) => {
    const { savepoints } = this.#host
    const { isOpen, isEnded, frame, home } = this.#transaction
    const own = isOpen && !isEnded ? frame : home
    const inTurn = (): void => savepoints.inTurnOf(savepoints.callersFrame(), start, reject)
    // The caller may have lost the async context of the transaction(fn) in which it was begun.
    if (own === null) inTurn()
    else own.run(inTurn)
  }

  /** The place of the client's calls: behind its earlier ones, and not inside of a later transaction. */
  readonly inPlace: Place = (start, reject) => {
    const transaction = this.#transaction
    const wait = (): void => {
      this.#waiting.add(() => this.inPlace(start, reject), reject ?? noop, this.failing(reject, transaction))
    }
    const proceed = (): void => {
      const { gone, isOver, isOpen } = transaction
      if (gone !== null) {
        transaction.refused(gone)
        reject?.(gone)
      } else if (isOver || (isOpen && this.#host.savepoints.client === transaction)) start()
      else wait()
    }
    if (transaction.gone !== null) proceed()
    else if (this.#waiting.isEmpty) this.around(proceed, reject)
    else wait()
  }

  /** Makes a call on its session. The caller may have lost the context of the transaction(fn) that it was begun in. */
  callAt<T> (place: Place, call: () => T): T {
    const { home } = this.#transaction
    return home === null ? callAt(place, call) : home.run(() => callAt(place, call))
  }

  /** Makes a call in its place. */
  make<T> (call: () => T | Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => this.inPlace(() => {
      try {
        resolve(call())
      } catch (error) {
        reject(error)
      }
    }, reject))
  }

  /** A command that changes the savepoints: later calls wait until it has ended. */
  change (report: (error: unknown) => void, place: Place, work: () => Promise<void>): Promise<void> {
    const { savepoints } = this.#host
    return new Promise((resolve, reject) => {
      const fail = (error: unknown): void => {
        report(error)
        reject(error)
      }
      place(() => {
        savepoints.hold()
        work().then(resolve, fail).then(() => savepoints.proceed())
      }, fail)
    })
  }

  /** Makes a call that follows the end, with the values as they are now. */
  runAfter<T> (
    own: OwnSession | null, config: CallConfig, call: (config: CallConfig) => Promise<T>
  ): Promise<T> {
    const place: Place = (start, reject) => {
      this.follow(start, reject ?? noop, this.failing(reject, this.enclosing))
    }
    if (own === null) return this.callAt(place, () => call(config))
    const captured = { ...config, values: capturedValues(config.values) }
    return new Promise((resolve, reject) => this.follow(() => resolve(own.resume(() => call(captured))), reject))
  }

  /** @param exceed rejects it when it has waited for too long */
  follow (start: () => void, reject: Reject, exceed = reject): void {
    this.#following.add(start, reject, exceed)
  }

  /** A BEGIN of another client. */
  precede (start: () => void, reject: Reject, exceed: Reject): void {
    this.#others.add(start, reject, exceed)
  }

  /** What is around the running code: a transaction(fn), or the session. */
  get enclosing (): Enclosing {
    return this.#host.savepoints.callersFrame() ?? this.#host
  }

  /** A call that has waited for too long fails what it belongs to. @param promise what its caller may await */
  failing (reject: Reject | null, enclosing: Enclosing, promise = new ObservedPromise<unknown>(noop)): Reject {
    return (error) => {
      enclosing.unawaited.add(promise, error)
      this.#host.fail(error)
      reject?.(error)
    }
  }

  /** The running code is in fn of a transaction(fn) that was opened inside of the transaction. */
  get isCallerInFn (): boolean {
    const { isOpen, isEnded } = this.#transaction
    return isOpen && !isEnded && this.#host.savepoints.callersFrame()?.isWithin(this.#transaction) === true
  }

  /** The failure of what was sent so far, or null. */
  async failureSoFar (): Promise<Error | null> {
    const transaction = this.#host.transaction()
    if (transaction?.isIdle === false) await transaction.settled()
    return this.#host.failure()
  }

  /** Something that calls wait for has changed. */
  startWaiting (): void {
    this.#waiting.startAll()
    if (!this.#transaction.isOver) return
    this.#following.startAll()
    this.#others.startAll()
  }

  rejectWaiting (error: Error): void {
    this.#waiting.rejectAll(error)
    this.#following.rejectAll(error)
    this.#others.rejectAll(error)
  }

  /** @param isText its failure rejects what follows */
  async end (isText: boolean, work: () => Promise<void>): Promise<void> {
    try {
      await work()
    } catch (error) {
      if (isText) this.rejectFollowing(error)
      throw error
    }
  }

  /** The rest of a text that has failed. */
  rejectFollowing (error: unknown): void {
    this.#following.rejectAll(error as Error)
  }
}
