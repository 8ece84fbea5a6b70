import { AsyncLocalStorage } from 'node:async_hooks'
import { UnawaitedFailures } from '../exchange/observed-promise.ts'
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
  readonly isOnServer: boolean
  /**
   * The transaction in which SAVEPOINT was sent. It travels with the first statement, so a savepoint without
   * statements costs nothing.
   */
  sentIn: Transaction | null = null
  isEnded = false
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

  end (last: number): void {
    this.isEnded = true
    this.trace?.released()
    this.#last = last
  }

  /** Whether it is `other` or was opened while `other` was open. */
  isWithin (other: Savepoint): boolean {
    return this.owner === other.owner && this.number >= other.number && this.number <= other.#last
  }
}

/** The frame in which the running code was called. */
const current = new AsyncLocalStorage<Frame>()

/** The savepoint of one running transaction(fn): what is called from within fn is called in this frame. */
export class Frame extends Savepoint {
  /** The frame in which its caller ran, of any session. */
  readonly enclosing: Frame | undefined = current.getStore()
  /** The state of fn. 'rolledBack': work that fn did not await has no transaction to belong to. */
  fn: 'running' | 'settled' | 'rolledBack' = 'running'
  /** Calls made in this frame that wait until the frames inside it have ended. */
  readonly waiting = new Turns()

  override get label (): string {
    return 'transaction(fn)'
  }

  override get frame (): Frame {
    return this
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
