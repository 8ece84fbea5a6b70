/** What can stand in a roster: in one at a time. */
export interface ArraySetMember {
  /** The roster's own. */
  arraySetIndex: number
}

/**
 * A set for what comes and goes with each request, in no order. V8 links each outgrown table of a Map or a Set to the next one:
 * once one of them is old, all that come after it, and all that stood in them, are kept until the next major collection of
 * garbage. Where members come and go all the time, no request's garbage would die young. An array has no such past.
 */
export class ArraySet<T extends ArraySetMember> implements Iterable<T> {
  #members: T[] = []

  get size (): number {
    return this.#members.length
  }

  add (member: T): void {
    member.arraySetIndex = this.#members.push(member) - 1
  }

  /** Takes out one that stands here. */
  delete (member: T): void {
    if (this.#members[member.arraySetIndex] !== member) return
    const last = this.#members.pop()!
    if (last === member) return
    this.#members[member.arraySetIndex] = last
    last.arraySetIndex = member.arraySetIndex
  }

  clear (): void {
    this.#members = []
  }

  /** Those that stand here now, whatever comes or goes meanwhile. */
  [Symbol.iterator] (): Iterator<T> {
    return this.#members.slice()[Symbol.iterator]()
  }
}
