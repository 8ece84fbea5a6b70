import type { Lease } from './lease.ts'
import type { AcquireRequest } from './wait-queue.ts'

/** Observes the waiters and the leases of a pool, which calls each method. An observer overrides what it needs. */
export abstract class PoolObserver {
  /** A waiter has entered the queue. */
  requested (_waiter: AcquireRequest): void {}
  /** A waiter has left the queue, for whatever reason. */
  left (_waiter: AcquireRequest): void {}
  granted (_lease: Lease, _waiter: AcquireRequest): void {}
  /** The lease has ended. */
  returned (_lease: Lease): void {}
  /** The server refused a connection. */
  connectionRefused (_error: unknown): void {}
}
