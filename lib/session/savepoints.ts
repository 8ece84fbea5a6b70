import { bindToContext } from '../async-context.ts'
import type { UnawaitedFailures } from '../observed-promise.ts'
import { Statement } from '../exchange/statement.ts'
import { traceTransaction } from '../exchange/transaction-trace.ts'
import type { Transaction } from '../exchange/transaction.ts'
import type { EngineIdentity, SessionIdentity } from '../../types/telemetry.ts'
import { takePlace } from './clients/call-place.ts'
import {
  callersFate, callersFrame, type Fate, Frame, isCallerRolledBack, outsideFrames, Savepoint
} from './savepoint.ts'
import { type Reject, Turns } from './turns.ts'
import type { RequestLabel } from '../telemetry/request-label.ts'

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
  /** No call waits for its turn any more. */
  #isOver = false
  /** Calls made outside all frames, which wait for these to end. */
  readonly #waiting = new Turns()
  /**
   * Ended successfully, but not released on the server: RELEASE travels with the next statement, because alone it would
   * cost a round trip.
   */
  #toRelease: Savepoint[] = none
  readonly #engine: EngineIdentity | null
  readonly #session: SessionIdentity | null
  readonly #label: RequestLabel | undefined

  /** For telemetry. */
  constructor (engine: EngineIdentity | null = null, session: SessionIdentity | null = null, label?: RequestLabel) {
    this.#engine = engine
    this.#session = session
    this.#label = label
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

  /** The transaction of a client that was begun last and is still open, or null. */
  get client (): Savepoint | null {
    return this.#top === null || this.#top.isClients ? this.#top : this.#top.client
  }

  /** The frame whose calls proceed; null stands for the session. */
  get #frame (): Frame | null {
    return this.#top === null ? null : this.#top.frame
  }

  /** Whether the running code was called inside an open transaction(fn) of this session. */
  get isCallerInside (): boolean {
    return this.callersFrame() !== null
  }

  /** A call of the running code would not have to wait. */
  get isCallersTurn (): boolean {
    return this.#isTurnOf(this.callersFrame())
  }

  /** Whether the running code was started by a transaction(fn) of this session that has been rolled back. */
  get isCallerRolledBack (): boolean {
    return isCallerRolledBack(this)
  }

  /** The innermost open frame of this session in which the running code was called. */
  callersFrame (): Frame | null {
    return callersFrame(this)
  }

  /** What becomes of the transaction(fn) in which the running code was called, or null if it is in none. */
  fateOfCaller (): Fate | null {
    return callersFate(this)
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
    const forClient = takePlace()
    if (forClient !== null) forClient(start, reject)
    else if (this.#top === null && !this.#isHeld) start()
    else this.inTurnOf(this.callersFrame(), start, reject)
  }

  /** inTurn() for commit() and rollback(): the calls after them belong to the next transaction. */
  toSettle (start: () => void): void {
    if (this.isFree) start()
    else this.#waiting.add(bindToContext(start), 'settles')
  }

  /** Resolves when every frame inside this one has ended; null stands for the session. */
  async whenInnermost (frame: Frame | null): Promise<void> {
    // Calls that waited, too, may have begun something by then.
    do await new Promise<void>((resolve) => this.inTurnOf(frame, resolve, null))
    while (!this.#isOver && !this.#isTurnOf(frame))
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

  /** inTurn() for a call in this frame; null stands for the session. */
  inTurnOf (from: Frame | null, start: () => void, reject: Reject | null): void {
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
    if (savepoint.isOnServer && this.#session !== null) {
      savepoint.trace = traceTransaction(this.#engine!, this.#session, this.#label, savepoint.name, false, 'savepoint')
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

  /** As whenInnermost(). Then the frame ends: later calls wait until proceed(). */
  async holdWhenInnermost (frame: Frame): Promise<void> {
    while (!this.#isTurnOf(frame) && !this.#isOver) await this.whenInnermost(frame)
    this.hold()
  }

  /** Makes every later call wait until proceed(), while the end of a savepoint or of the transaction is in progress. */
  hold (): void {
    this.#isHeld = true
  }

  proceed (): void {
    this.#isHeld = false
    this.#proceed()
  }

  /** Ends a frame that holdWhenInnermost() has prepared for it. */
  leaveHeld (frame: Frame): void {
    this.#isHeld = false
    this.leave(frame)
  }

  /** Ends the topmost savepoint. */
  leave (savepoint: Savepoint): void {
    this.#top = savepoint.parent
    savepoint.end(this.#count)
    // Calls that fn did not await belong to the enclosing frame.
    if (savepoint instanceof Frame) this.#waitingIn(this.#frame).takeFrom(savepoint.waiting)
    if (savepoint.isClients) this.client?.startWaiting()
    this.#proceed()
  }

  /**
   * The frame ends: ends the savepoints that savepoint() has opened in it and that were not released. Their work is
   * part of the frame's, and so are their failures.
   *
   * @param last the outermost one that stays open, if any does
   * @param reason for transactions of clients
   */
  endOpen (unawaited: UnawaitedFailures | null, last: Savepoint | null = null, reason: Error | null = null): void {
    let endsClients = false
    for (let each = this.#top; each !== null && each !== last && !(each instanceof Frame); each = each.parent) {
      endsClients ||= each.isClients
      this.#top = each.parent
      each.end(this.#count, reason)
      unawaited?.takeFrom(each.unawaited)
    }
    if (endsClients) this.client?.startWaiting()
  }

  /** Starts every waiting call, whose turn can no longer come: the session is closed, and rejects them. */
  startAll (): void {
    this.#isOver = true
    this.#waiting.run(() => true)
    for (let each = this.#top; each !== null; each = each.parent) {
      each.trace?.rolledBack(null)
      each.startWaiting()
    }
  }

  /** The connection is lost: rejects calls that wait for a transaction(fn) to end, because fn may await them. */
  rejectWaiting (error: Error): void {
    this.#waiting.rejectWaiting(error)
    for (let each = this.#top; each !== null; each = each.parent) each.rejectWaiting(error)
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
