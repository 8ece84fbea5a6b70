import { bindToContext } from '../async-context.ts'
import type { UnawaitedFailures } from '../exchange/observed-promise.ts'
import { Statement } from '../exchange/statement.ts'
import { traceTransaction } from '../exchange/transaction-trace.ts'
import type { Transaction } from '../exchange/transaction.ts'
import type { EngineIdentity } from '../../types/telemetry.ts'
import { callersFrame, Frame, isCallerRolledBack, outsideFrames, Savepoint } from './savepoint.ts'
import { type Reject, Turns } from './turns.ts'

const none: Savepoint[] = []

/**
 * The open savepoints of one session, and the order of calls around them. While fn of transaction(fn) runs, only calls
 * made inside fn proceed: a statement from outside would be rolled back with the savepoint although its caller had seen
 * it succeed. A savepoint of savepoint() has no fn: all calls of its frame, the enclosing transaction(fn) or the
 * session, run inside of it.
 */
export class Savepoints {
  #top: Savepoint | null = null
  #count = 0
  /** A call is in progress that later calls wait for: see hold(). */
  #isHeld = false
  /** Calls made outside all frames, which wait for these to end. */
  readonly #waiting = new Turns()
  /**
   * Ended successfully, but not released on the server: RELEASE travels with the next statement, because alone it would
   * cost a round trip.
   */
  #toRelease: Savepoint[] = none
  readonly #engine: EngineIdentity | null
  readonly #route: string | undefined

  /** For telemetry. */
  constructor (engine: EngineIdentity | null = null, route?: string) {
    this.#engine = engine
    this.#route = route
  }

  /** No savepoint is open, no call holds up the others, and no RELEASE is waiting to be sent. */
  get isEmpty (): boolean {
    return this.#top === null && !this.#isHeld && this.#toRelease.length === 0
  }

  /** No transaction(fn) runs, and no call holds up the others. */
  get isFree (): boolean {
    return this.#frame === null && !this.#isHeld
  }

  get top (): Savepoint | null {
    return this.#top
  }

  /** The frame whose calls proceed; null stands for the session. */
  get #frame (): Frame | null {
    return this.#top === null ? null : this.#top.frame
  }

  /** Whether the running code was called inside an open transaction(fn) of this session. */
  get isCallerInside (): boolean {
    return this.callersFrame() !== null
  }

  /** Whether the running code was started by a transaction(fn) of this session that has been rolled back. */
  get isCallerRolledBack (): boolean {
    return isCallerRolledBack(this)
  }

  /** The innermost open frame of this session in which the running code was called. */
  callersFrame (): Frame | null {
    return callersFrame(this)
  }

  /** Runs a function outside all frames of all sessions. */
  outside<T> (fn: () => T): T {
    return outsideFrames(fn)
  }

  /**
   * Starts a call immediately if no frame is open that its caller is not inside; otherwise when those frames have
   * ended.
   *
   * @param reject for a call that need not wait once the connection is lost: see rejectWaiting()
   */
  inTurn (start: () => void, reject: Reject | null = null): void {
    if (this.#top === null && !this.#isHeld) start()
    else this.#when(this.callersFrame(), start, reject)
  }

  /** inTurn() for commit() and rollback(): the calls after them belong to the next transaction. */
  toSettle (start: () => void): void {
    if (this.isFree) start()
    else this.#waiting.add(bindToContext(start), 'settles')
  }

  /** Resolves when every frame inside this one has ended; null stands for the session. */
  whenInnermost (frame: Frame | null): Promise<void> {
    return new Promise((resolve) => this.#when(frame, resolve, null))
  }

  /**
   * Resolves to true when the frames have ended that the caller is not inside; immediately to false if there are
   * none.
   */
  async othersEnded (): Promise<boolean> {
    const from = this.callersFrame()
    if (from === this.#frame) return false
    await this.whenInnermost(from)
    return true
  }

  #isTurnOf (frame: Frame | null): boolean {
    return frame === this.#frame && !this.#isHeld
  }

  #when (from: Frame | null, start: () => void, reject: Reject | null): void {
    if (this.#isTurnOf(from)) start()
    else this.#waitingIn(from).add(bindToContext(start), reject) // in the async context of the caller
  }

  #waitingIn (frame: Frame | null): Turns {
    return frame === null ? this.#waiting : frame.waiting
  }

  /** Starts the calls whose turn has come. */
  #proceed (): void {
    const frame = this.#frame
    this.#waitingIn(frame).run(() => this.#isTurnOf(frame))
  }

  /**
   * Opens a savepoint. Must be called in turn.
   *
   * @param name the name that its user wants
   */
  open (savepoint: Savepoint, name?: string): void {
    savepoint.number = ++this.#count
    savepoint.parent = this.#top
    const unique = `scope_${savepoint.number}`
    savepoint.name = name ?? unique
    savepoint.identifier = name === undefined ? unique : this.#identifier(name, unique)
    this.#top = savepoint
    if (savepoint.isOnServer && this.#engine !== null) {
      savepoint.trace = traceTransaction(this.#engine, this.#route, savepoint.name, false, 'savepoint')
    }
  }

  /**
   * The name that the user wants, quoted, unless a savepoint has it that may exist on the server: RELEASE and ROLLBACK
   * TO mean the last one of a name.
   */
  #identifier (name: string, unique: string): string {
    const quoted = `"${name.replaceAll('"', '""')}"`
    let isTaken = name.startsWith('scope_') || this.#toRelease.some(({ identifier }) => identifier === quoted)
    for (let each = this.#top; each !== null; each = each.parent) isTaken ||= each.identifier === quoted
    return isTaken ? unique : quoted
  }

  /** Opens the savepoint of a transaction(fn) and runs fn inside it. Must be called in turn. */
  enter<T> (fn: (frame: Frame) => T): T {
    const frame = new Frame(this)
    this.open(frame)
    return frame.enter(() => fn(frame))
  }

  /** Makes every later call wait until proceed(), while the end of a savepoint or of the transaction is in progress. */
  hold (): void {
    this.#isHeld = true
  }

  proceed (): void {
    this.#isHeld = false
    this.#proceed()
  }

  /** Ends the topmost savepoint. */
  leave (savepoint: Savepoint): void {
    const { parent } = savepoint
    savepoint.end(this.#count)
    this.#top = parent
    // Calls that fn did not await belong to the enclosing frame.
    if (savepoint instanceof Frame) this.#waitingIn(this.#frame).takeFrom(savepoint.waiting)
    this.#proceed()
  }

  /**
   * The frame ends: ends the savepoints that savepoint() has opened in it and that were not released. Their work is
   * part of the frame's, and so are their failures.
   *
   * @param last the outermost one that stays open, if any does
   */
  endOpen (unawaited: UnawaitedFailures | null, last: Savepoint | null = null): void {
    for (let each = this.#top; each !== null && each !== last && !(each instanceof Frame); each = each.parent) {
      each.end(this.#count)
      this.#top = each.parent
      unawaited?.takeFrom(each.unawaited)
    }
  }

  /** Starts every waiting call, whose turn can no longer come: the session is closed, and rejects them. */
  startAll (): void {
    for (let each = this.#top; each !== null; each = each.parent) each.trace?.rolledBack(null)
    this.#waiting.run(() => true)
    for (let frame = this.#frame; frame !== null; frame = frame.parent?.frame ?? null) frame.waiting.run(() => true)
  }

  /** The connection is lost: rejects calls that wait for a transaction(fn) to end, because fn may await them. */
  rejectWaiting (error: Error): void {
    this.#waiting.rejectWaiting(error)
    for (let frame = this.#frame; frame !== null; frame = frame.parent?.frame ?? null) {
      frame.waiting.rejectWaiting(error)
    }
  }

  /** A commit() or rollback() waits for its turn. */
  get settles (): boolean {
    return this.#waiting.settles
  }

  /** Its work is to be kept: RELEASE will be sent with the next statement. */
  release (savepoint: Savepoint): void {
    this.dropReleases(savepoint)
    if (this.#toRelease === none) this.#toRelease = []
    this.#toRelease.push(savepoint)
  }

  /** The innermost open savepoint that was sent in this transaction, as it is written in SQL, or null. */
  innermostIn (transaction: Transaction): string | null {
    let savepoint = this.#top
    while (savepoint !== null && savepoint.sentIn !== transaction) savepoint = savepoint.parent
    return savepoint === null ? null : savepoint.identifier
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
      if (savepoint.sentIn === transaction || !savepoint.isOnServer) break
      savepoint.sentIn = transaction
      statements.push(new Statement(`SAVEPOINT ${savepoint.identifier}`))
    }
    // The last one to release is the innermost.
    for (const { sentIn, identifier } of this.#toRelease.splice(0)) {
      if (sentIn === transaction) statements.push(new Statement(`RELEASE SAVEPOINT ${identifier}`))
    }
    return statements.reverse()
  }
}
