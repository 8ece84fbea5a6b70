import { Roster } from '../roster.ts'
import { askedBeside, type Holder } from './holder.ts'
import type { Lease } from './lease.ts'
import type { Waiter } from './strategy.ts'

/** How long until work that waits, and still has a statement of its own under way, is looked at again. Milliseconds. */
const interval = 50

/**
 * Finds out when every connection is held by work that waits for another one, so that nobody would ever go on: the newest of
 * those who wait is refused then, and the others go on before anybody who holds nothing yet: each of them gives back two.
 *
 * It looks when the running code has come to a rest, and again while statements run, for a handler need not wait for
 * all that it has asked for.
 */
export class DeadlockWatch {
  readonly #max: number
  readonly #refuse: (waiter: Waiter) => void
  /** The connections in use. */
  readonly #leases = new Roster<Lease>()
  /** How many of them are sessions of requests. */
  #requests = 0
  /** How many wait inside of work that may hold a connection itself, for each such work. */
  readonly #blocked = new Map<Holder, number>()
  /** Those who wait inside of other work than their own, in the order in which they came. */
  readonly #inside = new Set<Waiter>()
  /** Those who were left when somebody was refused. */
  readonly #favoured = new Set<Waiter>()
  #look: NodeJS.Immediate | null = null
  #again: NodeJS.Timeout | null = null

  /** @param max connections that there can be */
  constructor (max: number, refuse: (waiter: Waiter) => void) {
    this.#max = max
    this.#refuse = refuse
  }

  waits (waiter: Waiter): void {
    if (waiter.label === undefined && this.#requests > 0) askedBeside()
    if (!insideOther(waiter)) return
    this.#inside.add(waiter)
    this.#block(waiter, 1)
    this.#suspect()
  }

  /** Whether it may wait inside of work that holds a connection, here or of another engine. */
  mayHold (waiter: Waiter): boolean {
    return insideOther(waiter) || (waiter.within === null && waiter.label === undefined && this.#requests > 0)
  }

  /** The waiter waits no longer, whatever became of it. */
  over (waiter: Waiter): void {
    if (!this.#inside.delete(waiter)) return
    this.#favoured.delete(waiter)
    this.#block(waiter, -1)
  }

  /** Who is to be served before all others, if there is anybody. */
  get favoured (): Waiter | null {
    return this.#favoured.size === 0 ? null : this.#favoured.values().next().value!
  }

  granted (lease: Lease): void {
    this.#leases.add(lease)
    if (lease.holder.requestOf != null) this.#requests++
    this.#suspect()
  }

  returned (lease: Lease): void {
    this.#leases.delete(lease)
    if (lease.holder.requestOf != null) this.#requests--
  }

  /** Work may wait inside of work: all that is around the waiter waits with it. */
  #block (waiter: Waiter, change: 1 | -1): void {
    for (let within = waiter.within; within !== null; within = within.within) {
      const count = (this.#blocked.get(within.holder) ?? 0) + change
      if (count === 0) this.#blocked.delete(within.holder)
      else this.#blocked.set(within.holder, count)
    }
  }

  get #stuck (): boolean {
    if (this.#leases.size < this.#max || this.#blocked.size === 0) return false
    for (const { holder } of this.#leases) if (!this.#blocked.has(holder)) return false
    return true
  }

  #suspect (): void {
    if (this.#look !== null || this.#again !== null || !this.#stuck) return
    this.#look = setImmediate(() => {
      this.#look = null
      this.#decide()
    })
  }

  #decide (): void {
    if (!this.#stuck) return
    if (this.#atWork) {
      this.#again = setTimeout(() => {
        this.#again = null
        this.#decide()
      }, interval)
      return
    }
    const concerned = [...this.#inside].filter((waiter) => this.#concerns(waiter))
    const newest = concerned.pop()
    if (newest === undefined) return
    for (const waiter of concerned) this.#favoured.add(waiter)
    this.#refuse(newest)
    this.#suspect()
  }

  get #atWork (): boolean {
    for (const { connection } of this.#leases) if (connection.user !== null && connection.user.unanswered > 0) return true
    return false
  }

  /** Whether it waits inside of work that holds a connection here. */
  #concerns (waiter: Waiter): boolean {
    const holders = new Set(Array.from(this.#leases, ({ holder }) => holder))
    for (let within = waiter.within; within !== null; within = within.within) if (holders.has(within.holder)) return true
    return false
  }
}

/** Whether it waits inside of work that is not its own: that of a session which has no connection yet holds none. */
function insideOther ({ within, holder }: Waiter): boolean {
  for (let work = within; work !== null; work = work.within) if (work.holder !== holder) return true
  return false
}
