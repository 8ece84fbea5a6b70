import { keepFromExit, letExit } from '../process-exit.ts'
import type { Lease } from './lease.ts'
import type { AcquireTrace } from '../telemetry/operation.ts'
import type { ConnectionOwner, WorkContext } from './work-context.ts'
import type { RequestLabel } from '../telemetry/request-label.ts'

/** A session that asks for a connection. Answered exactly once: granted or rejected. */
export interface AcquireRequest {
  /** Needs a new connection, because a reused one was found dead. */
  readonly requireNew: boolean
  /** Needs a connection on which no answer is awaited. */
  readonly exclusive: boolean
  /** The owner of the lease. */
  readonly owner: ConnectionOwner
  /** The work that made the request: it is blocked while it awaits this lease. */
  readonly context: WorkContext | null
  /** Nothing awaits its promise so far, so it does not block the work around it. */
  readonly unawaited?: boolean
  /** Method and route, for reports. */
  readonly label: RequestLabel | undefined
  /** Its entry in the queue, set by the queue; null while it does not wait. */
  entry: QueueEntry | null
  /** The tracing channel of its last call of acquire(), set by the pool; null without subscribers. */
  trace?: AcquireTrace | null
  granted (lease: Lease): void
  refused (error: Error): void
}

/** A link of the queue's list. */
export interface QueueEntry {
  readonly waiter: AcquireRequest
  readonly deadline: number
  before: QueueEntry | null
  behind: QueueEntry | null
}

/**
 * The waiters of the pool, first in, first out: a doubly linked list with one timer.
 *
 *     shift() ◄── first ⇄ entry ⇄ entry ⇄ last ◄── push(waiter)
 *                   ▲        ▲
 *                 timer    waiter.entry ──► remove(waiter)
 *
 * push(), shift() and remove() take constant time. Every waiter has the same timeout, so the first entry is always
 * the next to expire, and one timer is enough. Pool calls all methods; `expired` is called for a waiter that has
 * left the queue.
 */
export class WaitQueue implements Iterable<AcquireRequest> {
  readonly #timeout: number
  readonly #expired: (waiter: AcquireRequest) => void
  #length = 0
  #first: QueueEntry | null = null
  #last: QueueEntry | null = null
  #timer: NodeJS.Timeout | null = null

  /**
   * @param timeout how long each waiter may wait, in milliseconds
   * @param expired called with each waiter that has waited that long, after it has left the queue
   */
  constructor (timeout: number, expired: (waiter: AcquireRequest) => void) {
    this.#timeout = timeout
    this.#expired = expired
  }

  get length (): number {
    return this.#length
  }

  push (waiter: AcquireRequest): void {
    const entry: QueueEntry = { waiter, deadline: performance.now() + this.#timeout, before: this.#last, behind: null }
    if (this.#last === null) this.#first = entry
    else this.#last.behind = entry
    this.#last = entry
    waiter.entry = entry
    this.#length++
    if (this.#timer === null) this.#timer = this.#arm(this.#timeout)
    else if (this.#length === 1) keepFromExit(this.#timer)
  }

  /** Removes and returns the first waiter. */
  shift (): AcquireRequest | null {
    const first = this.#first
    if (first !== null) this.#leave(first)
    return first?.waiter ?? null
  }

  * [Symbol.iterator] (): Iterator<AcquireRequest> {
    for (let entry = this.#first; entry !== null; entry = entry.behind) yield entry.waiter
  }

  peek (): AcquireRequest | null {
    return this.#first?.waiter ?? null
  }

  /** performance.now() when the first waiter entered; Infinity if the queue is empty. */
  get since (): number {
    return this.#first === null ? Infinity : this.#first.deadline - this.#timeout
  }

  /** @returns false if the waiter is not in the queue */
  remove (waiter: AcquireRequest): boolean {
    if (waiter.entry === null) return false
    this.#leave(waiter.entry)
    return true
  }

  #leave (entry: QueueEntry): void {
    if (entry.before === null) this.#first = entry.behind
    else entry.before.behind = entry.behind
    if (entry.behind === null) this.#last = entry.before
    else entry.behind.before = entry.before
    // An old entry that still points to newer ones would keep them alive past a minor garbage collection.
    entry.before = entry.behind = null
    entry.waiter.entry = null
    // The timer is kept, as the queue usually fills again soon, but it must not keep the process from exiting.
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

  /** Stops the timer. */
  stop (): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
  }
}
