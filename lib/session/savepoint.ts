import { AsyncLocalStorage } from 'node:async_hooks'
import { UnawaitedFailures } from '../observed-promise.ts'
import type { TransactionTrace } from '../exchange/transaction-trace.ts'
import type { Transaction } from '../exchange/transaction.ts'
import { Turns } from './turns.ts'

/**
 * A savepoint of one session, opened by transaction(fn) or by savepoint(). Savepoints is its owner, and gives it its
 * place.
 */
export class Savepoint {
  /** The Savepoints of its session. */
  readonly owner: object
  /** Its number within the session, counting up. */
  number = 0
  /** The savepoint of the same session that encloses it. */
  parent: Savepoint | null = null
  /** Its name for its user. */
  name = ''
  /** Its name on the server, quoted where necessary. */
  identifier = ''
  /** false: BEGIN stands for it, and nothing is sent for it. */
  isOnServer: boolean
  /**
   * The transaction in which SAVEPOINT was sent. It travels with the first statement, so a savepoint without
   * statements costs nothing.
   */
  sentIn: Transaction | null = null
  isEnded = false
  /** A client of fastify-pg-scope/pg has begun it: see clients/client-transaction.ts. */
  readonly isClients: boolean = false
  /** Its tracing channel; null without subscribers. */
  trace: TransactionTrace | null = null
  readonly unawaited = new UnawaitedFailures()
  /** The number of outcome hooks when it was called for: later ones may belong to it. */
  hooks = 0
  /** Once it has ended: the number of the last savepoint that was opened inside it. */
  #last = Infinity

  constructor (owner: object, isOnServer = true) {
    this.owner = owner
    this.isOnServer = isOnServer
  }

  /** What its user called, for errors. */
  get label (): string {
    return `savepoint "${this.name}"`
  }

  /** The transaction(fn) whose calls run inside this savepoint; null for the calls of the session itself. */
  get frame (): Frame | null {
    let enclosing = this.parent
    while (enclosing !== null && !(enclosing instanceof Frame)) enclosing = enclosing.parent
    return enclosing
  }

  /** The transaction of a client that encloses this savepoint, or null. */
  get client (): Savepoint | null {
    let enclosing = this.parent
    while (enclosing !== null && !enclosing.isClients) enclosing = enclosing.parent
    return enclosing
  }

  /** @param _reason why, if it was ended with what is around it */
  end (last: number, _reason: Error | null = null): void {
    this.isEnded = true
    this.trace?.released()
    this.#last = last
  }

  /** Starts the calls that wait for savepoints inside this one: it is the innermost that has such calls. */
  startWaiting (): void {}

  /** Rejects the calls that wait for savepoints inside this one: the connection is lost. */
  rejectWaiting (_error: Error): void {}

  /** Whether it is `other` or was opened while `other` was open. */
  isWithin (other: Savepoint): boolean {
    return this.owner === other.owner && this.number >= other.number && this.number <= other.#last
  }
}

/** What has become of the work of a transaction(fn): why it is undone, or null. */
export type Fate = () => { readonly error: unknown } | null

export function isUndone (fate: Fate | null): boolean {
  return fate !== null && fate() !== null
}

/** @throws why the work is undone */
export function throwIfUndone (fate: Fate | null): void {
  const undone = fate?.() ?? null
  if (undone !== null) throw undone.error
}

/** The frame in which the running code was called. */
const current = new AsyncLocalStorage<Frame>()

/** The savepoint of one running transaction(fn): what is called from within fn is called in this frame. */
export class Frame extends Savepoint {
  /** The frame in which its caller ran, of any session. */
  readonly enclosing: Frame | undefined = current.getStore()
  /** The state of fn. 'rolledBack': work that fn did not await has no transaction to belong to. */
  fn: 'running' | 'settled' | 'rolledBack' = 'running'
  /** Why fn was rolled back. */
  error: unknown = null
  /** Calls made in this frame that wait until the frames inside it have ended. */
  readonly waiting = new Turns()

  override get label (): string {
    return 'transaction(fn)'
  }

  override get frame (): Frame {
    return this
  }

  override startWaiting (): void {
    this.waiting.run(() => true)
  }

  override rejectWaiting (error: Error): void {
    this.waiting.rejectWaiting(error)
  }

  /** Why its work is undone: it was rolled back, or one around it. Null if it is not. */
  get undone (): { readonly error: unknown } | null {
    let frame: Frame | undefined = this
    while (frame !== undefined && (frame.owner !== this.owner || frame.fn !== 'rolledBack')) frame = frame.enclosing
    return frame ?? null
  }

  /** Runs fn of transaction(fn). */
  enter<T> (fn: () => T): T {
    return current.run(this, fn)
  }

  /**
   * Runs a function as part of this frame. Code that already runs in a frame inside this one stays there: otherwise it
   * would wait for that frame to end, and the frame for it.
   */
  run<T> (fn: () => T): T {
    return callersFrame(this.owner)?.isWithin(this) ? fn() : current.run(this, fn)
  }

  /** Runs a function in the async context of the caller of transaction(fn). */
  outside<T> (fn: () => T): T {
    return current.run(this.enclosing as Frame, fn)
  }
}

/** The innermost open frame of a session in which the running code was called. */
export function callersFrame (owner: object): Frame | null {
  let frame = current.getStore()
  while (frame !== undefined && (frame.owner !== owner || frame.isEnded)) frame = frame.enclosing
  return frame ?? null
}

/** What becomes of the innermost transaction(fn) of a session in which the running code was called, or null. */
export function callersFate (owner: object): Fate | null {
  let frame = current.getStore()
  // One that has ended, too: what it has called may have waited since.
  while (frame !== undefined && frame.owner !== owner) frame = frame.enclosing
  return frame === undefined ? null : () => frame.undone
}

/** Whether the running code was started by a transaction(fn) of a session that has been rolled back. */
export function isCallerRolledBack (owner: object): boolean {
  for (let frame = current.getStore(); frame !== undefined; frame = frame.enclosing) {
    if (frame.owner === owner && frame.fn === 'rolledBack') return true
  }
  return false
}

/** Runs a function outside all frames of all sessions. */
export function outsideFrames<T> (fn: () => T): T {
  return current.getStore() === undefined ? fn() : current.run(undefined as never, fn)
}
