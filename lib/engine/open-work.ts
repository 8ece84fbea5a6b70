import { ArraySet } from '../array-set.ts'
import type { Lease } from '../pool/lease.ts'
import type { ManagedSession } from '../session/managed-session.ts'

/** What an engine must wait for when it closes. */
export class OpenWork {
  /** Sessions that have not ended. */
  readonly sessions = new ArraySet<ManagedSession>()
  /** Leases of `lease(fn)` that have not been returned. */
  readonly leases = new Set<Lease>()
  /** Promises of hooks that are running. */
  readonly pending = new Set<Promise<unknown>>()
  /** The number of calls of `lease(fn)` that wait for their connection. */
  waitingForLease = 0
  #listeners: (() => void)[] = []

  get isEmpty (): boolean {
    return this.sessions.size + this.leases.size + this.pending.size + this.waitingForLease === 0
  }

  /** The age of the oldest open transaction, in whole milliseconds; 0 if there is none. */
  get oldestTransaction (): number {
    const now = performance.now()
    let oldest = now
    for (const { since } of this.sessions) if (since !== null && since < oldest) oldest = since
    return Math.round(now - oldest)
  }

  ended (session: ManagedSession): void {
    this.sessions.delete(session)
    // An async context may retain the session until its socket closes: release the request, which this function
    // refers to.
    session.onForcedClose = undefined
    this.changed()
  }

  /** Some work has ended. */
  changed (): void {
    for (const listener of this.#listeners.splice(0)) listener()
  }

  /** Resolves when some work ends. */
  nextChange (): Promise<void> {
    return new Promise((resolve) => this.#listeners.push(resolve))
  }

  /** Stops waiting for the work that has not ended. */
  abandon (): void {
    this.sessions.clear()
    this.leases.clear()
    this.pending.clear()
    this.changed()
  }
}
