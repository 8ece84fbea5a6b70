import { setTimeout as sleep } from 'node:timers/promises'
import type { Lease } from '../pool/lease.ts'

/** How long a running statement may take to heed its cancellation. Milliseconds. */
const patience = 900

/**
 * Gives up a connection that owes answers. By the last answer that came it may look clean, and be left to say goodbye: on a
 * network that swallows everything that would never end, and elsewhere the server would first finish what it runs. One that
 * was handed over is not ours to give up.
 */
export function abandon (lease: Lease): void {
  if (lease.isReturned) return
  lease.connection.destroy()
  lease.destroy()
}

/** What is to be stopped. */
export interface Running {
  readonly lease: Lease | null
  /** Batches of it that are under way. */
  readonly unanswered: number
  /** Resolves when nothing is under way. */
  settled (): Promise<void>
  canceled (): void
}

/**
 * Stops what a connection is running on the server. Where that takes too long, statements are still unanswered when it
 * resolves: such a connection can only be destroyed.
 */
export async function cancelRunning (running: Running): Promise<void> {
  const { connection } = running.lease!
  await new Promise<void>((resolve) => connection.whenCommitAnswered(resolve))
  const deadline = performance.now() + patience
  // A request that comes between two statements hits neither, hence the repetition.
  for (let pause = 50; running.unanswered > 0 && running.lease !== null && performance.now() < deadline; pause *= 2) {
    running.canceled()
    await running.lease.connection.cancel()
    if (running.unanswered > 0) await Promise.race([running.settled(), sleep(Math.min(pause, Math.max(0, deadline - performance.now())))])
  }
}
