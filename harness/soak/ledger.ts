/** What each client was told, in a byte for each request, so that the ledger does not grow with them. */
export class Ledger {
  /** Requests that did not end as their kind says: the first few, in words. */
  readonly surprises: string[] = []
  #surprised = 0
  readonly #told: Uint8Array

  constructor (requests: number) {
    this.#told = new Uint8Array(requests)
  }

  get surprised (): number { return this.#surprised }

  acknowledge (n: number): void { this.#told[n] = told.saved }
  refuse (n: number): void { this.#told[n] = told.notSaved }
  /** The client went away, and does not know. */
  leave (n: number): void { this.#told[n] = told.nothing }

  surprise (text: string): void {
    this.#surprised++
    if (this.surprises.length < 10) this.surprises.push(text)
  }

  count (what: keyof typeof told): number {
    return this.#told.reduce((sum, value) => sum + Number(value === told[what]), 0)
  }

  /** @param rows the numbers in the table; each request writes its own at most once */
  compare (rows: readonly number[]): { lost: number, unwanted: number, twice: number, unknownSaved: number } {
    const saved = new Uint8Array(this.#told.length)
    for (const n of rows) saved[n]!++
    const result = { lost: 0, unwanted: 0, twice: 0, unknownSaved: 0 }
    for (const [n, value] of this.#told.entries()) {
      const times = saved[n]!
      if (times > 1) result.twice++
      if (value === told.saved && times === 0) result.lost++
      if ((value === told.notSaved || value === 0) && times > 0) result.unwanted++
      if (value === told.nothing && times > 0) result.unknownSaved++
    }
    return result
  }
}

const told = { saved: 1, notSaved: 2, nothing: 3 }
