export type Reject = (error: Error) => void

interface Turn {
  readonly start: () => void
  /**
   * Rejects the call before its turn. null: the call must wait; 'settles': the call ends the transaction, and must wait
   * too.
   */
  readonly reject: Reject | 'settles' | null
}

/** Started calls are cut off the array only when there are at least this many of them. */
const cutAt = 1000

const none: Turn[] = []

/**
 * Calls that wait for their turn, first come, first served. The cost of a call does not depend on the number of waiting
 * calls.
 */
export class Turns {
  /** Allocated lazily: most sessions never wait. */
  #turns: Turn[] = none
  /** How many at the front of the array have started. */
  #started = 0
  /** How many of the waiting calls end the transaction. */
  #settling = 0

  /** A commit() or rollback() is waiting. */
  get settles (): boolean {
    return this.#settling > 0
  }

  get isEmpty (): boolean {
    return this.#turns.length === 0
  }

  add (start: () => void, reject: Turn['reject']): void {
    if (this.#turns === none) this.#turns = []
    this.#turns.push({ start, reject })
    if (reject === 'settles') this.#settling++
  }

  /** Appends the waiting calls of another queue, which is empty afterwards. */
  takeFrom (others: Turns): void {
    for (let turn = others.#next(); turn !== null; turn = others.#next()) this.add(turn.start, turn.reject)
  }

  /** Starts the calls one after the other, as long as `mayStart()` holds: a call may open a savepoint. */
  run (mayStart: () => boolean): void {
    while (mayStart()) {
      const turn = this.#next()
      if (turn === null) return
      turn.start()
    }
  }

  /** Rejects every call that can be rejected before its turn, up to the first that ends the transaction. */
  rejectWaiting (error: Error): void {
    const turns = this.#turns.slice(this.#started)
    const end = turns.findIndex(({ reject }) => reject === 'settles')
    const ahead = end === -1 ? turns : turns.slice(0, end)
    const left = turns.filter(({ reject }, i) => i >= ahead.length || typeof reject !== 'function')
    this.#turns = left.length > 0 ? left : none
    this.#started = 0
    for (const { reject } of ahead) if (typeof reject === 'function') reject(error)
  }

  #next (): Turn | null {
    const turn = this.#turns[this.#started]
    if (turn === undefined) return null
    this.#started++
    if (turn.reject === 'settles') this.#settling--
    const allStarted = this.#started === this.#turns.length
    if (allStarted || (this.#started > cutAt && this.#started * 2 > this.#turns.length)) {
      this.#turns = allStarted ? none : this.#turns.slice(this.#started)
      this.#started = 0
    }
    return turn
  }
}
