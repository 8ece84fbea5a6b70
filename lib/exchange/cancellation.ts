import { setTimeout as sleep } from 'node:timers/promises'
import type { Lease } from '../pool/lease.ts'

/** How long a running statement may take to react to its cancellation. Milliseconds. */
const cancelTimeout = 900

/**
 * Destroys a connection that owes answers. Its last answer may make it look clean, but a graceful end would wait until
 * the server has finished what it runs, and would never complete on a network that drops all packets. A connection that
 * was handed over belongs to another session and is left alone.
 */
export function abandon (lease: Lease): void {
  if (lease.isReturned) return
  lease.connection.destroy()
  lease.destroy()
}

/** Work on a lease that can be cancelled. */
export interface Running {
  readonly lease: Lease
  /** It is sent and not answered. */
  readonly isRunning: boolean
  /** Resolves when it is answered. */
  settled (): Promise<void>
  /** A CancelRequest is being sent. */
  canceled (): void
}

/**
 * Cancels what a connection runs on the server. If it still runs when this resolves, the server did not react in time,
 * and the connection can only be destroyed.
 */
export async function cancelRunning (running: Running): Promise<void> {
  const { lease } = running
  const { connection } = lease
  await new Promise<void>((resolve) => connection.whenCommitAnswered(resolve))
  const deadline = performance.now() + cancelTimeout
  // A CancelRequest that arrives between two statements cancels neither, so it is repeated.
  for (let pause = 50; running.isRunning && !lease.isReturned && performance.now() < deadline; pause *= 2) {
    running.canceled()
    await connection.cancel()
    if (!running.isRunning) return
    const left = Math.max(0, deadline - performance.now())
    await Promise.race([running.settled(), sleep(Math.min(pause, left))])
  }
}
