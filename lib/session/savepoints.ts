import { AsyncLocalStorage } from 'node:async_hooks'
import { bindToContext } from '../async-context.ts'
import { UnawaitedFailures } from '../exchange/observed-promise.ts'
import { Statement } from '../exchange/statement.ts'
import type { Transaction } from '../exchange/transaction.ts'
import { type Refuse, Turns } from './turns.ts'

/** One call of transaction(fn) under way. */
export class Savepoint {
  readonly owner: Savepoints
  /** Counted up in its session. */
  readonly number: number
  /** The one of the same session that it stands in. */
  readonly parent: Savepoint | null
  /** The one that its caller ran in, of whatever session. */
  readonly enclosing: Savepoint | undefined
  /** The transaction that SAVEPOINT was sent in: it goes with the first statement, so that one without statements costs nothing. */
  sentIn: Transaction | null = null
  /** What has become of fn. An `undone` one is rolled back: what fn left behind has nothing to belong to. */
  fn: 'running' | 'settled' | 'undone' = 'running'
  isEnded = false
  /** What is called from within, and waits for those inside to end. */
  readonly waiting = new Turns()
  readonly unawaited = new UnawaitedFailures()
  /** How many outcome hooks there were when it was opened. */
  hooks = 0
  /** The number of the last one that was opened inside of it, once it has ended. */
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
   * Runs a function as a part of it, whatever called that. Code that stands in a savepoint inside of it stays there: waiting for that
   * one to end, from within, it would wait for itself.
   */
  run<T> (fn: () => T): T {
    return this.owner.callers()?.within(this) ? fn() : current.run(this, fn)
  }

  /** Runs a function where the caller of transaction(fn) stood. */
  outside<T> (fn: () => T): T {
    return current.run(this.enclosing as Savepoint, fn)
  }

  end (last: number): void {
    this.isEnded = true
    this.#last = last
  }

  /** Whether it is the other one, or stands in it: all that are opened while one is open do. */
  within (other: Savepoint): boolean {
    return this.owner === other.owner && this.number >= other.number && this.number <= other.#last
  }
}

const none: Savepoint[] = []

/** Which savepoint the code that runs at the moment stands in, through every await. */
const current = new AsyncLocalStorage<Savepoint>()

/**
 * The savepoints of one session, and whose turn it is. While fn of transaction(fn) runs, only what is called from within it
 * may go on: a statement from outside would be rolled back with the savepoint although its caller had been told that it succeeded.
 */
export class Savepoints {
  #top: Savepoint | null = null
  #count = 0
  /** What is called from outside of all savepoints, and waits for them to end. */
  readonly #waiting = new Turns()
  /** Ended well, and RELEASE is still to be sent: with the next statement, for by itself it would cost a round trip. */
  #kept: Savepoint[] = none

  /** Nothing is open, and nothing to be sent ahead of a statement. */
  get isEmpty (): boolean {
    return this.#top === null && this.#kept.length === 0
  }

  get top (): Savepoint | null {
    return this.#top
  }

  /** Whether the code that runs at the moment stands in one of them. */
  get entered (): boolean {
    return this.callers() !== null
  }

  /** Whether the code that runs at the moment was left behind by a transaction(fn) that was rolled back. */
  get stray (): boolean {
    for (let savepoint = current.getStore(); savepoint !== undefined; savepoint = savepoint.enclosing) {
      if (savepoint.owner === this && savepoint.fn === 'undone') return true
    }
    return false
  }

  /** Runs a function as if its caller stood in none, of whatever session. */
  outside<T> (fn: () => T): T {
    return current.getStore() === undefined ? fn() : current.run(undefined as never, fn)
  }

  /**
   * Runs at once when it is the caller's turn, otherwise when the savepoints that its caller does not stand in have ended.
   *
   * @param refuse for what need not wait where the connection is lost: see refuse()
   */
  inTurn (go: () => void, refuse: Refuse | null = null): void {
    if (this.#top === null) go()
    else this.#when(this.callers(), go, refuse)
  }

  /** The same for commit() and rollback() by hand, behind which another transaction begins. */
  toSettle (go: () => void): void {
    if (this.#top === null) go()
    else this.#waiting.add(bindToContext(go), 'settles')
  }

  /** Resolves when every savepoint inside of this one, or of the session, has ended. */
  innermost (savepoint: Savepoint | null): Promise<void> {
    return new Promise((resolve) => this.#when(savepoint, resolve, null))
  }

  /** Resolves to true when those have ended that the caller does not stand in, and to false at once where there are none. */
  async inner (): Promise<boolean> {
    const from = this.callers()
    if (from === this.#top) return false
    await this.innermost(from)
    return true
  }

  #when (from: Savepoint | null, go: () => void, refuse: Refuse | null): void {
    if (from === this.#top) go()
    else this.#waitingIn(from).add(bindToContext(go), refuse) // in the context of its caller, not of whoever ends
  }

  #waitingIn (savepoint: Savepoint | null): Turns {
    return savepoint === null ? this.#waiting : savepoint.waiting
  }

  /** Opens one around fn; its caller must be in turn. */
  enter<T> (fn: (savepoint: Savepoint) => T): T {
    const savepoint = new Savepoint(this, ++this.#count, this.#top, current.getStore())
    this.#top = savepoint
    return current.run(savepoint, fn, savepoint)
  }

  /** Everybody's turn ends until leave(): for commit() and rollback() by hand. Nobody stands in it. */
  hold (): Savepoint {
    this.#top = new Savepoint(this, ++this.#count, this.#top, undefined)
    return this.#top
  }

  leave (savepoint: Savepoint): void {
    const around = savepoint.parent
    savepoint.end(this.#count)
    this.#top = around
    // Work that fn left behind belongs to what is around it.
    this.#waitingIn(around).take(savepoint.waiting)
    this.#waitingIn(around).run(() => this.#top === around)
  }

  /** Nobody's turn will come any more: all who wait go on, to be refused. */
  abandon (): void {
    this.#waiting.run(() => true)
    for (let savepoint = this.#top; savepoint !== null; savepoint = savepoint.parent) savepoint.waiting.run(() => true)
  }

  /** The connection is lost: what waits for a transaction(fn) to end is rejected now, for fn may wait for it. */
  refuse (error: Error): void {
    this.#waiting.refuse(error)
    for (let savepoint = this.#top; savepoint !== null; savepoint = savepoint.parent) savepoint.waiting.refuse(error)
  }

  /** commit() or rollback() by hand waits for its turn. */
  get settles (): boolean {
    return this.#waiting.settles
  }

  /** Its work is kept. */
  keep (savepoint: Savepoint): void {
    this.forget(savepoint)
    if (this.#kept === none) this.#kept = []
    this.#kept.push(savepoint)
  }

  /** The server has dropped it, and what stood in it. */
  forget (savepoint: Savepoint): void {
    while (this.#kept.at(-1)?.within(savepoint)) this.#kept.pop()
  }

  /** RELEASE for those that ended, and SAVEPOINT for each one that the server does not know yet, outermost first. */
  ahead (transaction: Transaction): Statement[] {
    const statements: Statement[] = []
    for (let savepoint = this.#top; savepoint !== null && savepoint.sentIn !== transaction; savepoint = savepoint.parent) {
      savepoint.sentIn = transaction
      statements.push(new Statement(`SAVEPOINT ${savepoint.name}`))
    }
    // The last that was kept is the innermost.
    for (const { sentIn, name } of this.#kept.splice(0)) {
      if (sentIn === transaction) statements.push(new Statement(`RELEASE SAVEPOINT ${name}`))
    }
    return statements.reverse()
  }

  /** The innermost that the running code stands in. */
  callers (): Savepoint | null {
    let savepoint = current.getStore()
    while (savepoint !== undefined && (savepoint.owner !== this || savepoint.isEnded)) savepoint = savepoint.enclosing
    return savepoint ?? null
  }
}
