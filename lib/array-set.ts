/** A possible member of an ArraySet, of one at a time. */
export interface ArraySetMember {
  /** Maintained by the set. */
  arraySetIndex: number
}

/**
 * An unordered set for objects that live as long as a request. When a Map or a Set grows or shrinks, V8 links the
 * old table to the new one. Once a table is in the old generation, every later table and its members survive until
 * the next major garbage collection. If members are added and deleted all the time, no request's garbage would die
 * young. An array has no such links.
 */
export class ArraySet<T extends ArraySetMember> implements Iterable<T> {
  #members: T[] = []

  get size (): number {
    return this.#members.length
  }

  add (member: T): void {
    member.arraySetIndex = this.#members.push(member) - 1
  }

  /** Does nothing for an object that is not a member. */
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

  /** Iterates over the current members, even if members are added or deleted during the iteration. */
  [Symbol.iterator] (): Iterator<T> {
    return this.#members.slice()[Symbol.iterator]()
  }
}
