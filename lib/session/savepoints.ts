import { AsyncLocalStorage } from 'node:async_hooks'
import { bindToContext } from '../async-context.ts'
import { UnawaitedFailures } from '../exchange/observed-promise.ts'
import { Statement } from '../exchange/statement.ts'
import type { Transaction } from '../exchange/transaction.ts'
import { type Reject, Turns } from './turns.ts'

/** One running transaction(fn). */
export class Savepoint {
  readonly owner: Savepoints
  /** Its number within the session, counting up. */
  readonly number: number
  /** The savepoint of the same session that encloses it. */
  readonly parent: Savepoint | null
  /** The savepoint in which its caller ran, of any session. */
  readonly enclosing: Savepoint | undefined
  /**
   * The transaction in which SAVEPOINT was sent. It travels with the first statement, so a transaction(fn) without
   * statements costs nothing.
   */
  sentIn: Transaction | null = null
  /** The state of fn. 'rolledBack': work that fn did not await has no transaction to belong to. */
  fn: 'running' | 'settled' | 'rolledBack' = 'running'
  isEnded = false
  /** Calls made inside it that wait until the savepoints inside it have ended. */
  readonly waiting = new Turns()
  readonly unawaited = new UnawaitedFailures()
  /** The number of outcome hooks when it was opened. */
  hooks = 0
  /** Once it has ended: the number of the last savepoint that was opened inside it. */
  #last = Infinity

  constructor (owner: Savepoints, number: number, parent: Savepoint | null, enclosing: Savepoint | undefined) {
    this.owner = owner
    this.number = number
    this.parent = parent
    this.enclosing = enclosing
  }

  get name (): string {
    return `scope_${this.number}`
  }

  /**
   * Runs a function as part of this savepoint. Code that already runs in a savepoint inside this one stays there:
   * otherwise it would wait for that savepoint to end, and the savepoint for it.
   */
  run<T> (fn: () => T): T {
    return this.owner.callersSavepoint()?.isWithin(this) ? fn() : current.run(this, fn)
  }

  /** Runs a function in the async context of the caller of transaction(fn). */
  outside<T> (fn: () => T): T {
    return current.run(this.enclosing as Savepoint, fn)
  }

  end (last: number): void {
    this.isEnded = true
    this.#last = last
  }

  /** Whether it is `other` or was opened while `other` was open. */
  isWithin (other: Savepoint): boolean {
    return this.owner === other.owner && this.number >= other.number && this.number <= other.#last
  }
}

const none: Savepoint[] = []

/** The savepoint in which the running code was called. */
const current = new AsyncLocalStorage<Savepoint>()

/**
 * The open savepoints of one session, and the order of calls around them. While fn of transaction(fn) runs, only calls
 * made inside fn proceed: a statement from outside would be rolled back with the savepoint although its caller had seen
 * it succeed.
 */
export class Savepoints {
  #top: Savepoint | null = null
  #count = 0
  /** Calls made outside all savepoints, which wait for these to end. */
  readonly #waiting = new Turns()
  /**
   * Ended successfully, but not released on the server: RELEASE travels with the next statement, because alone it would
   * cost a round trip.
   */
  #toRelease: Savepoint[] = none

  /** No savepoint is open, and no RELEASE is waiting to be sent. */
  get isEmpty (): boolean {
    return this.#top === null && this.#toRelease.length === 0
  }

  get top (): Savepoint | null {
    return this.#top
  }

  /** Whether the running code was called inside an open savepoint of this session. */
  get isCallerInside (): boolean {
    return this.callersSavepoint() !== null
  }

  /** Whether the running code was started by a transaction(fn) of this session that has been rolled back. */
  get isCallerRolledBack (): boolean {
    for (let savepoint = current.getStore(); savepoint !== undefined; savepoint = savepoint.enclosing) {
      if (savepoint.owner === this && savepoint.fn === 'rolledBack') return true
    }
    return false
  }

  /** Runs a function outside all savepoints of all sessions. */
  outside<T> (fn: () => T): T {
    return current.getStore() === undefined ? fn() : current.run(undefined as never, fn)
  }

  /**
   * Starts a call immediately if no savepoint is open that its caller is not inside; otherwise when those savepoints
   * have ended.
   *
   * @param reject for a call that need not wait once the connection is lost: see rejectWaiting()
   */
  inTurn (start: () => void, reject: Reject | null = null): void {
    if (this.#top === null) start()
    else this.#when(this.callersSavepoint(), start, reject)
  }

  /** inTurn() for commit() and rollback(): the calls after them belong to the next transaction. */
  toSettle (start: () => void): void {
    if (this.#top === null) start()
    else this.#waiting.add(bindToContext(start), 'settles')
  }

  /** Resolves when every savepoint inside this one has ended; null stands for the session. */
  whenInnermost (savepoint: Savepoint | null): Promise<void> {
    return new Promise((resolve) => this.#when(savepoint, resolve, null))
  }

  /**
   * Resolves to true when the savepoints have ended that the caller is not inside; immediately to false if there are
   * none.
   */
  async othersEnded (): Promise<boolean> {
    const from = this.callersSavepoint()
    if (from === this.#top) return false
    await this.whenInnermost(from)
    return true
  }

  #when (from: Savepoint | null, start: () => void, reject: Reject | null): void {
    if (from === this.#top) start()
    else this.#waitingIn(from).add(bindToContext(start), reject) // in the async context of the caller
  }

  #waitingIn (savepoint: Savepoint | null): Turns {
    return savepoint === null ? this.#waiting : savepoint.waiting
  }

  /** Opens a savepoint and runs fn inside it. Must be called in turn. */
  enter<T> (fn: (savepoint: Savepoint) => T): T {
    const savepoint = new Savepoint(this, ++this.#count, this.#top, current.getStore())
    this.#top = savepoint
    return current.run(savepoint, fn, savepoint)
  }

  /**
   * Makes every call wait until leave(), while commit() or rollback() is in progress. No code runs inside this
   * savepoint.
   */
  hold (): Savepoint {
    this.#top = new Savepoint(this, ++this.#count, this.#top, undefined)
    return this.#top
  }

  leave (savepoint: Savepoint): void {
    const { parent } = savepoint
    savepoint.end(this.#count)
    this.#top = parent
    // Calls that fn did not await belong to the enclosing savepoint.
    this.#waitingIn(parent).takeFrom(savepoint.waiting)
    this.#waitingIn(parent).run(() => this.#top === parent)
  }

  /** Starts every waiting call, whose turn can no longer come: the session is closed, and rejects them. */
  startAll (): void {
    this.#waiting.run(() => true)
    for (let savepoint = this.#top; savepoint !== null; savepoint = savepoint.parent) savepoint.waiting.run(() => true)
  }

  /** The connection is lost: rejects calls that wait for a transaction(fn) to end, because fn may await them. */
  rejectWaiting (error: Error): void {
    this.#waiting.rejectWaiting(error)
    for (let savepoint = this.#top; savepoint !== null; savepoint = savepoint.parent) {
      savepoint.waiting.rejectWaiting(error)
    }
  }

  /** A commit() or rollback() waits for its turn. */
  get settles (): boolean {
    return this.#waiting.settles
  }

  /** fn has succeeded: RELEASE will be sent with the next statement. */
  release (savepoint: Savepoint): void {
    this.dropReleases(savepoint)
    if (this.#toRelease === none) this.#toRelease = []
    this.#toRelease.push(savepoint)
  }

  /** The savepoint no longer exists on the server, nor does any savepoint inside it. */
  dropReleases (savepoint: Savepoint): void {
    while (this.#toRelease.at(-1)?.isWithin(savepoint)) this.#toRelease.pop()
  }

  /**
   * What precedes the next statement: RELEASE for savepoints that ended, SAVEPOINT for those not yet sent, outermost
   * first.
   */
  controlStatements (transaction: Transaction): Statement[] {
    const statements: Statement[] = []
    for (let savepoint = this.#top; savepoint !== null; savepoint = savepoint.parent) {
      if (savepoint.sentIn === transaction) break
      savepoint.sentIn = transaction
      statements.push(new Statement(`SAVEPOINT ${savepoint.name}`))
    }
    // The last one to release is the innermost.
    for (const { sentIn, name } of this.#toRelease.splice(0)) {
      if (sentIn === transaction) statements.push(new Statement(`RELEASE SAVEPOINT ${name}`))
    }
    return statements.reverse()
  }

  /** The innermost open savepoint of this session in which the running code was called. */
  callersSavepoint (): Savepoint | null {
    let savepoint = current.getStore()
    while (savepoint !== undefined && (savepoint.owner !== this || savepoint.isEnded)) savepoint = savepoint.enclosing
    return savepoint ?? null
  }
}
