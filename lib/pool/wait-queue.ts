import { keepFromExit, letExit } from '../process-exit.ts'
import type { Lease } from './lease.ts'
import type { ConnectionOwner, WorkContext } from './work-context.ts'

/** A session that asks for a connection. Answered exactly once: granted or rejected. */
export interface AcquireRequest {
  /** Needs a new connection, because a reused one was found dead. */
  readonly requireNew: boolean
  /** Needs a connection on which no answer is awaited. */
  readonly exclusive: boolean
  /** The owner of the lease. */
  readonly owner: ConnectionOwner
  /** The work that called, which cannot go on while it awaits this lease. */
  readonly context: WorkContext | null
  /** So far its promise is not awaited, so that the work around it goes on. */
  readonly unawaited?: boolean
  /** Method and route, for reports. */
  readonly label: string | undefined
  /** Its place in the queue; set by the queue. */
  entry: QueueEntry | null
  granted (lease: Lease): void
  refused (error: Error): void
}

/** A link of the queue. */
export interface QueueEntry {
  readonly waiter: AcquireRequest
  readonly deadline: number
  before: QueueEntry | null
  behind: QueueEntry | null
}

/**
 * Those who wait for a connection, first come first served. Entering, leaving from anywhere and being served cost the same
 * however long it is, and one timer serves all: everybody waits equally long, so the first place is the next to expire.
 */
export class WaitQueue implements Iterable<AcquireRequest> {
  readonly #timeout: number
  readonly #expired: (waiter: AcquireRequest) => void
  #length = 0
  #first: QueueEntry | null = null
  #last: QueueEntry | null = null
  #timer: NodeJS.Timeout | null = null

  /** @param timeout milliseconds that each may wait */
  constructor (timeout: number, expired: (waiter: AcquireRequest) => void) {
    this.#timeout = timeout
    this.#expired = expired
  }

  get length (): number {
    return this.#length
  }

  push (waiter: AcquireRequest): void {
    const place: QueueEntry = { waiter, deadline: performance.now() + this.#timeout, before: this.#last, behind: null }
    if (this.#last === null) this.#first = place
    else this.#last.behind = place
    this.#last = place
    waiter.entry = place
    this.#length++
    if (this.#timer === null) this.#timer = this.#arm(this.#timeout)
    else if (this.#length === 1) keepFromExit(this.#timer)
  }

  /** The first waiter, who leaves the queue with this. */
  shift (): AcquireRequest | null {
    const first = this.#first
    if (first !== null) this.#leave(first)
    return first?.waiter ?? null
  }

  * [Symbol.iterator] (): Iterator<AcquireRequest> {
    for (let place = this.#first; place !== null; place = place.behind) yield place.waiter
  }

  peek (): AcquireRequest | null {
    return this.#first?.waiter ?? null
  }

  /** performance.now() when the first waiter entered; Infinity where nobody waits. */
  get since (): number {
    return this.#first === null ? Infinity : this.#first.deadline - this.#timeout
  }

  /** False where the waiter is not in the queue. */
  remove (waiter: AcquireRequest): boolean {
    if (waiter.entry === null) return false
    this.#leave(waiter.entry)
    return true
  }

  #leave (place: QueueEntry): void {
    if (place.before === null) this.#first = place.behind
    else place.before.behind = place.behind
    if (place.behind === null) this.#last = place.before
    else place.behind.before = place.before
    // One that was old when it left would keep those who came later from dying young.
    place.before = place.behind = null
    place.waiter.entry = null
    // The timer stays, for most queues come again soon; a process with nothing else to do need not wait for it.
    if (--this.#length === 0 && this.#timer !== null) letExit(this.#timer)
  }

  #arm (delay: number): NodeJS.Timeout {
    return setTimeout(() => this.#expire(), Math.max(1, Math.ceil(delay)))
  }

  #expire (): void {
    this.#timer = null
    const now = performance.now()
    while (this.#first !== null && this.#first.deadline <= now) this.#expired(this.shift()!)
    if (this.#first !== null) this.#timer = this.#arm(this.#first.deadline - now)
  }

  /** Stops the timer, so that a process with nothing else to do can end. */
  stop (): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
  }
}
