/** The limit of all entries, in characters, each with the overhead below. */
const most = 4_000_000

/** The overhead of an entry. It limits the memo to 2,000 short texts, as more are rarely sent again. */
const perText = 2_000

/**
 * Remembers a result for each statement text, as applications send the same few texts repeatedly. Its size is
 * bounded, as some build a new text each time.
 */
export class TextMemo<T extends {} | null> {
  readonly #known = new Map<string, T>()
  readonly #find: (text: string) => T
  #room = most

  /** @param find computes the result for a text that is not in the memo */
  constructor (find: (text: string) => T) {
    this.#find = find
  }

  of (text: string): T {
    const known = this.#known.get(text)
    return known === undefined ? this.#learn(text) : known
  }

  #learn (text: string): T {
    const found = this.#find(text)
    const cost = text.length + perText
    // A text above the limit would evict all others.
    if (cost > most) return found
    this.#room -= cost
    if (this.#room < 0) {
      this.#known.clear()
      this.#room = most - cost
    }
    this.#known.set(text, found)
    return found
  }
}
