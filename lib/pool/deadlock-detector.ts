import { ArraySet } from '../array-set.ts'
import type { ConnectionOwner } from './work-context.ts'
import type { Lease } from './lease.ts'
import { PoolObserver } from './pool-observer.ts'
import type { AcquireRequest } from './wait-queue.ts'

/** The time between two checks while a deadlock is possible. Milliseconds. */
const interval = 50

/**
 * Detects that every connection is held by work that waits for another connection, so that no work can continue.
 * The newest of these waiters is rejected. The others are then served before waiters that hold no connection, as
 * each of them returns two.
 *
 *     request 1 ──holds──► connection 1        request 1 ──waits──┐
 *     request 2 ──holds──► connection 2        request 2 ──waits──┴──► connections 1 and 2: deadlock
 *
 * The check runs after the current turn of the event loop, and every 50 ms while a deadlock is possible: all
 * connections are in use and a waiter is nested in other work. It repeats because a handler may wait for a running
 * statement only, and because a promise may be awaited later.
 */
export class DeadlockDetector extends PoolObserver {
  readonly #max: number
  readonly #refuse: (waiter: AcquireRequest) => void
  /** The leases of all connections in use. */
  readonly #leases = new ArraySet<Lease>()
  /** How many of these leases belong to sessions of requests. */
  #requests = 0
  readonly #waiting: Iterable<AcquireRequest>
  /** How many waiters are nested in the work of another owner. */
  #nested = 0
  /** The waiters that remained when a deadlock was resolved. */
  readonly #prioritized = new Set<AcquireRequest>()
  #check: NodeJS.Immediate | null = null
  #recheck: NodeJS.Timeout | null = null

  /**
   * @param max the limit of connections in use
   * @param waiting all waiters, oldest first
   * @param refuse called with the waiter to reject; it leaves the queue
   */
  constructor (max: number, waiting: Iterable<AcquireRequest>, refuse: (waiter: AcquireRequest) => void) {
    super()
    this.#max = max
    this.#waiting = waiting
    this.#refuse = refuse
  }

  override requested (waiter: AcquireRequest): void {
    if (!isNested(waiter)) return
    this.#nested++
    this.#suspect()
  }

  /** Whether the waiter may be nested in work that holds a connection of this or another engine. */
  mayHold (waiter: AcquireRequest): boolean {
    return isNested(waiter) || (waiter.context === null && waiter.label === undefined && this.#requests > 0)
  }

  override left (waiter: AcquireRequest): void {
    if (!isNested(waiter)) return
    this.#nested--
    this.#prioritized.delete(waiter)
  }

  /** The waiter to serve before all others, or null. */
  get prioritized (): AcquireRequest | null {
    return this.#prioritized.size === 0 ? null : this.#prioritized.values().next().value!
  }

  override granted (lease: Lease): void {
    this.#leases.add(lease)
    if (lease.owner.requestOf != null) this.#requests++
    this.#suspect()
  }

  override returned (lease: Lease): void {
    this.#leases.delete(lease)
    if (lease.owner.requestOf != null) this.#requests--
  }

  /** Every connection is in use, and a waiter is nested in work that may hold one. */
  get #possible (): boolean {
    return this.#nested > 0 && this.#leases.size >= this.#max
  }

  /** Whether every lease is held by work that is blocked. */
  get #stuck (): boolean {
    const blocked = new Set<ConnectionOwner>()
    for (const waiter of this.#waiting) for (const owner of blockedBy(waiter)) blocked.add(owner)
    for (const { isReturned, owner } of this.#leases) {
      if (isReturned || owner.settling === true || !blocked.has(owner)) return false
    }
    return true
  }

  /** Schedules a check. One check per turn of the event loop is enough, and it takes time proportional to the queue. */
  #suspect (): void {
    if (this.#check !== null || this.#recheck !== null || !this.#possible) return
    this.#check = setImmediate(() => {
      this.#check = null
      this.#decide()
    })
  }

  #decide (): void {
    if (!this.#possible) return
    if (!this.#stuck || this.#atWork) {
      this.#recheck = setTimeout(() => {
        this.#recheck = null
        this.#decide()
      }, interval)
      return
    }
    const blocking = this.#blocking
    const newest = blocking.pop()
    if (newest === undefined) return
    for (const waiter of blocking) this.#prioritized.add(waiter)
    this.#refuse(newest)
    this.#suspect()
  }

  /** Whether any connection awaits an answer. */
  get #atWork (): boolean {
    for (const { connection: { user } } of this.#leases) if (user !== null && user.unanswered > 0) return true
    return false
  }

  /** The waiters that block work which holds a connection of this pool, oldest first. */
  get #blocking (): AcquireRequest[] {
    const owners = new Set(Array.from(this.#leases, ({ owner }) => owner))
    return Array.from(this.#waiting).filter((waiter) => blockedBy(waiter).some((owner) => owners.has(owner)))
  }
}

/**
 * Whether the waiter is nested in the work of another owner. Its own owner does not count, as it has no connection
 * yet.
 */
function isNested ({ context, owner }: AcquireRequest): boolean {
  for (let work = context; work !== null; work = work.parent) if (work.owner !== owner) return true
  return false
}

/**
 * The owners that cannot continue before the waiter is served: those of all work around it, outwards, as far as it is
 * awaited.
 */
function blockedBy (waiter: AcquireRequest): ConnectionOwner[] {
  const owners: ConnectionOwner[] = []
  let awaited = waiter.unawaited !== true
  for (let work = waiter.context; work !== null && awaited; work = work.parent) {
    owners.push(work.owner)
    awaited = work.unawaited?.() !== true
  }
  return owners
}
