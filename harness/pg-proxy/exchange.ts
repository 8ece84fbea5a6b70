export interface Ask {
  readonly type: string
}

// What the server says when it is done with a message of the extended protocol.
const completions: Record<string, string> = { 1: 'P', 2: 'B', 3: 'C', T: 'D', n: 'D', C: 'E', I: 'E', s: 'E' }
const extended = 'PBDEC'
const readies = 'SQF'

/**
 * What one client has asked and the server has not answered yet. A *demand* makes the server send what it has: Sync, a
 * simple Query, a function call, or a Flush behind something. The difference between `demanded` and `answered` says
 * whether the client may be waiting.
 */
export class Exchange {
  demanded = 0
  answered = 0
  #asks: Ask[] = []
  // After an error the server ignores all messages up to the next Sync.
  #server: 'listening' | 'skipping' | 'copying' = 'listening'

  get head (): Ask | undefined { return this.#asks[0] }

  awaits (ask: Ask): boolean { return this.#asks.includes(ask) }

  ask (type: string): Ask {
    const ask = { type }
    if (this.#server === 'copying') this.#askInCopy(type)
    else if (readies.includes(type)) {
      this.#server = 'listening'
      this.#demand(ask)
    } else if (this.#server === 'listening') {
      if (extended.includes(type)) this.#asks.push(ask)
      else if (type === 'H' && this.#asks.length > 0 && this.#asks.at(-1)!.type !== 'H') this.#demand(ask)
    }
    return ask
  }

  /** Takes one message of the server; true for a ReadyForQuery. */
  answer (type: string): boolean {
    if (type === 'Z') this.#dropThrough(ask => readies.includes(ask.type), 1)
    else if (type === 'E') this.#fail()
    else if (type === 'G') this.#startCopy()
    else if (completions[type] !== undefined && completions[type] === this.head?.type) this.#asks.shift()
    // A Flush has no answer of its own: it is answered when everything before it is.
    while (this.head?.type === 'H') this.#drop(1)
    return type === 'Z'
  }

  #demand (ask: Ask): void {
    this.#asks.push(ask)
    this.demanded++
  }

  #drop (count: number): void {
    for (const ask of this.#asks.splice(0, count)) {
      if (!extended.includes(ask.type)) this.answered++
    }
  }

  #dropThrough (found: (ask: Ask) => boolean, extra: 0 | 1): boolean {
    const index = this.#asks.findIndex(found)
    this.#drop(index === -1 ? this.#asks.length : index + extra)
    return index !== -1
  }

  #fail (): void {
    this.#server = 'listening'
    if (this.head !== undefined && !this.#dropThrough(ask => readies.includes(ask.type), 0)) this.#server = 'skipping'
  }

  // During COPY FROM STDIN the server ignores Flush and Sync, those under way included: the client has to send another
  // one behind its CopyDone. A simple Query is answered by CopyInResponse, and its CopyDone by ReadyForQuery.
  #startCopy (): void {
    this.#server = 'copying'
    const [head] = this.#asks
    if (head?.type === 'Q') this.answered++
    else if (head !== undefined) {
      this.#drop(this.#asks.length)
      this.#asks = [head]
    }
  }

  #askInCopy (type: string): void {
    if (type !== 'c' && type !== 'f') return
    this.#server = 'listening'
    if (this.head?.type === 'Q') this.demanded++
  }
}
