import { ArraySet } from '../array-set.ts'
import { askedBeside, type ConnectionOwner } from './work-context.ts'
import type { Lease } from './lease.ts'
import type { AcquireRequest } from './wait-queue.ts'

/** How long until the pool is looked at again while a deadlock is still possible. Milliseconds. */
const interval = 50

/**
 * Finds out when every connection is held by work that waits for another one, so that nobody would ever go on: the newest of
 * those who wait is refused then, and the others go on before anybody who holds nothing yet: each of them gives back two.
 *
 * It looks when the running code has come to a rest, and again for as long as all connections are in use and work inside of other
 * work waits: a statement that runs may be all that a handler waits for, and a promise may be awaited later.
 */
export class DeadlockDetector {
  readonly #max: number
  readonly #refuse: (waiter: AcquireRequest) => void
  /** The connections in use. */
  readonly #leases = new ArraySet<Lease>()
  /** How many of them are sessions of requests. */
  #requests = 0
  readonly #waiting: Iterable<AcquireRequest>
  /** How many wait inside of other work than their own. */
  #inside = 0
  /** Those who were left when somebody was refused. */
  readonly #prioritized = new Set<AcquireRequest>()
  #look: NodeJS.Immediate | null = null
  #again: NodeJS.Timeout | null = null

  /**
   * @param max connections that there can be
   * @param waiting all who wait, in the order in which they came
   */
  constructor (max: number, waiting: Iterable<AcquireRequest>, refuse: (waiter: AcquireRequest) => void) {
    this.#max = max
    this.#waiting = waiting
    this.#refuse = refuse
  }

  waits (waiter: AcquireRequest): void {
    if (waiter.label === undefined && this.#requests > 0) askedBeside()
    if (!insideOther(waiter)) return
    this.#inside++
    this.#suspect()
  }

  /** Whether it may wait inside of work that holds a connection, here or of another engine. */
  mayHold (waiter: AcquireRequest): boolean {
    return insideOther(waiter) || (waiter.context === null && waiter.label === undefined && this.#requests > 0)
  }

  /** The waiter waits no longer, whatever became of it. */
  left (waiter: AcquireRequest): void {
    if (!insideOther(waiter)) return
    this.#inside--
    this.#prioritized.delete(waiter)
  }

  /** Who is to be served before all others, if there is anybody. */
  get prioritized (): AcquireRequest | null {
    return this.#prioritized.size === 0 ? null : this.#prioritized.values().next().value!
  }

  granted (lease: Lease): void {
    this.#leases.add(lease)
    if (lease.owner.requestOf != null) this.#requests++
    this.#suspect()
  }

  returned (lease: Lease): void {
    this.#leases.delete(lease)
    if (lease.owner.requestOf != null) this.#requests--
  }

  /** Every connection is in use, and somebody waits inside of work that may hold one. */
  get #possible (): boolean {
    return this.#inside > 0 && this.#leases.size >= this.#max
  }

  get #stuck (): boolean {
    const blocked = new Set<ConnectionOwner>()
    for (const waiter of this.#waiting) for (const holder of blockedBy(waiter)) blocked.add(holder)
    for (const { isReturned: over, owner: holder } of this.#leases) if (over || holder.settling === true || !blocked.has(holder)) return false
    return true
  }

  /** Looked at once for all that the running code does: it takes as long as the queue is. */
  #suspect (): void {
    if (this.#look !== null || this.#again !== null || !this.#possible) return
    this.#look = setImmediate(() => {
      this.#look = null
      this.#decide()
    })
  }

  #decide (): void {
    if (!this.#possible) return
    if (!this.#stuck || this.#atWork) {
      this.#again = setTimeout(() => {
        this.#again = null
        this.#decide()
      }, interval)
      return
    }
    const concerned = this.#concerned
    const newest = concerned.pop()
    if (newest === undefined) return
    for (const waiter of concerned) this.#prioritized.add(waiter)
    this.#refuse(newest)
    this.#suspect()
  }

  get #atWork (): boolean {
    for (const { connection } of this.#leases) if (connection.user !== null && connection.user.unanswered > 0) return true
    return false
  }

  /** Those that work which holds a connection here waits for. */
  get #concerned (): AcquireRequest[] {
    const holders = new Set(Array.from(this.#leases, ({ owner: holder }) => holder))
    return Array.from(this.#waiting).filter((waiter) => blockedBy(waiter).some((holder) => holders.has(holder)))
  }
}

/** Whether it waits inside of work that is not its own: that of a session which has no connection yet holds none. */
function insideOther ({ context: within, owner: holder }: AcquireRequest): boolean {
  for (let work = within; work !== null; work = work.parent) if (work.owner !== holder) return true
  return false
}

/** What cannot go on before it is served. Work may wait inside of work: all that is around a waiter waits with it, as far as it is awaited. */
function blockedBy (waiter: AcquireRequest): ConnectionOwner[] {
  const holders: ConnectionOwner[] = []
  let awaited = waiter.unawaited !== true
  for (let work = waiter.context; work !== null && awaited; work = work.parent) {
    holders.push(work.owner)
    awaited = work.unawaited?.() !== true
  }
  return holders
}
