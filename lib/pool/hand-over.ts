import type { Lease } from './lease.ts'

/** A COMMIT that takes this much longer than a round trip is slow: no session queues behind it. Milliseconds. */
const slow = 50

/** The factor by which each COMMIT reduces the weight of a slower one before it. */
const decay = 0.9

/** The factor by which each answer raises the shortest round trip, as the way to the server may become longer. */
const growth = 1.01

/** How much longer than a round trip the COMMITs of one route, or of one other kind of session, take. */
export class CommitLatency {
  /** The longest recent excess over a round trip, in milliseconds. */
  #longest = 0

  /** @param excess time beyond a round trip, in milliseconds */
  record (excess: number): void {
    this.#longest = Math.max(excess, this.#longest * decay)
  }

  /**
   * Whether a waiter may queue behind such a COMMIT. Some always take long, because of a deferred trigger for
   * example: the next connection that is returned is then the better choice.
   */
  get isLow (): boolean {
    return this.#longest < slow
  }
}

/** A lease whose COMMIT is sent and not answered. */
export interface PendingCommit {
  readonly lease: Lease
  readonly latency: CommitLatency
  /** performance.now() when COMMIT was sent. */
  readonly since: number
}

/**
 * The connections whose COMMIT is not answered. Under load, such a connection passes to the next session as soon as
 * its COMMIT is sent: whatever the answer is, it ends the transaction, so the next BEGIN may be sent behind it.
 *
 *     session A   INSERT ──► ◄── ok   COMMIT ──►            ◄── ok
 *     session B                            BEGIN, SELECT ──►     ◄── rows
 *     lease       held by A ──────────────┤ held by B ──────────────────
 *
 * A connection is thus held for one round trip less. Pool calls next() while sessions wait; the transactions call
 * commitSent() and commitAnswered() through it. A pending commit leaves the list when it is answered, handed over,
 * or found to be slow.
 */
export class HandOver {
  /** In the order in which COMMIT was sent, which is the likely order of the answers. */
  readonly #commits: PendingCommit[] = []
  /** The shortest recent round trip, in milliseconds. */
  #roundTrip = Infinity

  commitSent (lease: Lease, latency: CommitLatency): PendingCommit {
    const commit = { lease, latency, since: performance.now() }
    if (latency.isLow && lease.sharable) this.#commits.push(commit)
    return commit
  }

  /**
   * Removes and returns the lease whose COMMIT was sent first, or null. A COMMIT that already runs for long is left
   * out.
   */
  next (): Lease | null {
    const earliest = performance.now() - this.#roundTrip - slow
    for (let commit = this.#commits.shift(); commit !== undefined; commit = this.#commits.shift()) {
      if (commit.since > earliest && commit.lease.sharable) return commit.lease
    }
    return null
  }

  commitAnswered (commit: PendingCommit): void {
    // Usually it is the first, which needs no splice().
    const index = this.#commits.indexOf(commit)
    if (index === 0) this.#commits.shift()
    else if (index > 0) this.#commits.splice(index, 1)
    const duration = performance.now() - commit.since
    this.recordRoundTrip(duration)
    commit.latency.record(duration - this.#roundTrip)
  }

  /** @param duration time from a batch to its answer, in milliseconds */
  recordRoundTrip (duration: number): void {
    this.#roundTrip = Math.min(duration, this.#roundTrip * growth)
  }
}
