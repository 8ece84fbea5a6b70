export type Refuse = (error: Error) => void

interface Turn {
  readonly go: () => void
  /** How it is rejected ahead of its turn; null for what has to wait even so; 'settles' for what ends the transaction. */
  readonly refuse: Refuse | 'settles' | null
}

/** Enough to be worth the copying. */
const many = 1000

const none: Turn[] = []

/** Calls that wait for their turn, first come, first served. Each costs the same, however many wait. */
export class Turns {
  /** Mostly nobody waits. */
  #turns: Turn[] = none
  /** How many at the front have gone. */
  #gone = 0
  /** How many of them end the transaction. */
  #settling = 0

  get settles (): boolean {
    return this.#settling > 0
  }

  add (go: () => void, refuse: Turn['refuse']): void {
    if (this.#turns === none) this.#turns = []
    this.#turns.push({ go, refuse })
    if (refuse === 'settles') this.#settling++
  }

  /** Takes over what waits elsewhere. */
  take (others: Turns): void {
    for (let turn = others.#next(); turn !== null; turn = others.#next()) this.add(turn.go, turn.refuse)
  }

  /** Lets them go on, one after the other, for as long as it is their turn. */
  run (theirs: () => boolean): void {
    while (theirs()) {
      const turn = this.#next()
      if (turn === null) return
      turn.go()
    }
  }

  /** Rejects all that can be rejected ahead of its turn, but nothing behind what ends the transaction. */
  refuse (error: Error): void {
    const turns = this.#turns.slice(this.#gone)
    const end = turns.findIndex(({ refuse }) => refuse === 'settles')
    const ahead = end === -1 ? turns : turns.slice(0, end)
    const left = turns.filter(({ refuse }, i) => i >= ahead.length || typeof refuse !== 'function')
    this.#turns = left.length > 0 ? left : none
    this.#gone = 0
    for (const { refuse } of ahead) if (typeof refuse === 'function') refuse(error)
  }

  #next (): Turn | null {
    const turn = this.#turns[this.#gone]
    if (turn === undefined) return null
    this.#gone++
    if (turn.refuse === 'settles') this.#settling--
    if (this.#gone === this.#turns.length || (this.#gone > many && this.#gone * 2 > this.#turns.length)) {
      this.#turns = this.#gone === this.#turns.length ? none : this.#turns.slice(this.#gone)
      this.#gone = 0
    }
    return turn
  }
}
