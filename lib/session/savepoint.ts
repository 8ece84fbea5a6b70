import { AsyncLocalStorage, AsyncResource } from 'node:async_hooks'
import { Statement } from './statement.ts'
import type { Transaction } from './transaction.ts'

/** One call of transaction(fn) under way. */
export class Savepoint {
  readonly owner: Savepoints
  readonly name: string
  /** The one of the same session that it stands in. */
  readonly parent: Savepoint | null
  /** The one that its caller ran in, of whatever session. */
  readonly enclosing: Savepoint | undefined
  /** The transaction that SAVEPOINT was sent in: it goes with the first statement, so that one without statements costs nothing. */
  sentIn: Transaction | null = null
  ended = false
  /** What the failures are of those inside of it that its fn did not wait for; null while fn runs. */
  strays: unknown[] | null = null

  constructor (owner: Savepoints, name: string, parent: Savepoint | null, enclosing: Savepoint | undefined) {
    this.owner = owner
    this.name = name
    this.parent = parent
    this.enclosing = enclosing
  }

  /** Runs a function as a part of it, whatever called that. */
  run<T> (fn: () => T): T {
    return current.run(this, fn)
  }

  /** Whether it is the other one, or stands in it. */
  within (other: Savepoint): boolean {
    return this === other || (this.parent?.within(other) ?? false)
  }
}

/** Which savepoint the code that runs at the moment stands in, through every await. */
const current = new AsyncLocalStorage<Savepoint>()

/**
 * The savepoints of one session, and whose turn it is. While fn of transaction(fn) runs, only what is called from within it
 * may go on: a statement from outside would be rolled back with the savepoint although its caller had been told that it succeeded.
 */
export class Savepoints {
  #top: Savepoint | null = null
  #count = 0
  #waiting: { from: Savepoint | null, go: () => void }[] = []
  /** Ended well, and RELEASE is still to be sent: with the next statement, for by itself it would cost a round trip. */
  #kept: Savepoint[] = []

  /** Nothing is open, and nothing to be sent ahead of a statement. */
  get clear (): boolean {
    return this.#top === null && this.#kept.length === 0
  }

  get top (): Savepoint | null {
    return this.#top
  }

  /** Whether the code that runs at the moment stands in one of them. */
  get entered (): boolean {
    return this.callers() !== null
  }

  /** Runs at once when it is the caller's turn, otherwise when the savepoints that its caller does not stand in have ended. */
  inTurn (go: () => void): void {
    if (this.#top === null) go()
    else this.#when(this.callers(), go)
  }

  /** Resolves when every savepoint inside of this one, or of the session, has ended. */
  innermost (savepoint: Savepoint | null): Promise<void> {
    return new Promise((resolve) => this.#when(savepoint, resolve))
  }

  /** Resolves to true when those have ended that the caller does not stand in, and to false at once where there are none. */
  async inner (): Promise<boolean> {
    const from = this.callers()
    if (from === this.#top) return false
    await this.innermost(from)
    return true
  }

  #when (from: Savepoint | null, go: () => void): void {
    if (from === this.#top) go()
    else this.#waiting.push({ from, go: AsyncResource.bind(go) }) // in the context of its caller, not of whoever ends
  }

  /** Opens one around fn; its caller must be in turn. */
  enter<T> (fn: (savepoint: Savepoint) => T): T {
    const savepoint = new Savepoint(this, `scope_${++this.#count}`, this.#top, current.getStore())
    this.#top = savepoint
    return current.run(savepoint, fn, savepoint)
  }

  /** Everybody's turn ends until leave(): for commit() and rollback() by hand. Nobody stands in it. */
  hold (): Savepoint {
    this.#top = new Savepoint(this, '', this.#top, undefined)
    return this.#top
  }

  leave (savepoint: Savepoint): void {
    savepoint.ended = true
    this.#top = savepoint.parent
    const waiting = this.#waiting.splice(0)
    while (waiting.length > 0) {
      const next = waiting.findIndex(({ from }) => alive(from) === this.#top)
      if (next === -1) break
      waiting.splice(next, 1)[0]!.go()
    }
    this.#waiting.unshift(...waiting)
  }

  /** Nobody's turn will come any more: all who wait go on, to be refused. */
  abandon (): void {
    for (const { go } of this.#waiting.splice(0)) go()
  }

  /** Its work is kept. */
  keep (savepoint: Savepoint): void {
    this.forget(savepoint)
    this.#kept.push(savepoint)
  }

  /** The server has dropped it, and what stood in it. */
  forget (savepoint: Savepoint): void {
    this.#kept = this.#kept.filter((kept) => !kept.within(savepoint))
  }

  /** RELEASE for those that ended, and SAVEPOINT for each one that the server does not know yet, outermost first. */
  ahead (transaction: Transaction): Statement[] {
    const statements: Statement[] = []
    for (let savepoint = this.#top; savepoint !== null && savepoint.sentIn !== transaction; savepoint = savepoint.parent) {
      savepoint.sentIn = transaction
      statements.unshift(new Statement(`SAVEPOINT ${savepoint.name}`))
    }
    for (const { sentIn, name } of this.#kept.splice(0)) {
      if (sentIn === transaction) statements.unshift(new Statement(`RELEASE SAVEPOINT ${name}`))
    }
    return statements
  }

  /** The innermost that the running code stands in. */
  callers (): Savepoint | null {
    let savepoint = current.getStore()
    while (savepoint !== undefined && (savepoint.owner !== this || savepoint.ended)) savepoint = savepoint.enclosing
    return savepoint ?? null
  }
}

/** The nearest one that has not ended: work that a function left behind belongs to what is around it. */
function alive (savepoint: Savepoint | null): Savepoint | null {
  while (savepoint !== null && savepoint.ended) savepoint = savepoint.parent
  return savepoint
}
