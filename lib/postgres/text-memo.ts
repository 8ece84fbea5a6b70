/** In characters, together with what each text costs. */
const most = 4_000_000

/** What an entry takes besides its text, so that of short ones no more than 2,000 stay: more are seldom the few that come again. */
const perText = 2_000

/**
 * What was found out about texts of statements: applications send the same few over and over. Bounded by what is kept, for texts
 * that are built anew each time.
 */
export class TextMemo<T extends {} | null> {
  readonly #known = new Map<string, T>()
  readonly #find: (text: string) => T
  #room = most

  /** @param find is asked where a text is not known, or not any more */
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
    // It would push out all others, and leave no room for the next.
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
