import type { Lease } from './lease.ts'

/** How much longer than a round trip a COMMIT may take before nobody is put behind it. Milliseconds. */
const slow = 50

/** How much what was slow still counts after a COMMIT that was not. */
const memory = 0.9

/** How fast the shortest answer is forgotten, for the way to the server may become longer. */
const creep = 1.01

/** How much longer than a round trip the COMMITs of one kind of session take. */
export class CommitLatency {
  /** The longest of late, in milliseconds. */
  #longest = 0

  /** @param excess milliseconds */
  record (excess: number): void {
    this.#longest = Math.max(excess, this.#longest * memory)
  }

  /** Some always take long, for a deferred trigger say: who waits is better off with the next connection that comes free. */
  get isLow (): boolean {
    return this.#longest < slow
  }
}

/** A connection whose session has written COMMIT. */
export interface PendingCommit {
  readonly lease: Lease
  readonly latency: CommitLatency
  /** performance.now() when COMMIT was written. */
  readonly since: number
}

/**
 * Connections whose sessions wait for the answer to COMMIT. It ends the transaction whatever the answer is, so that the next
 * session may write behind it: a connection is held for as many round trips as there are statements, and not for one more.
 */
export class HandOver {
  /** In the order in which COMMIT was written: the first is answered first, as far as one can know. */
  readonly #commits: PendingCommit[] = []
  /** The shortest that an answer took, in milliseconds. */
  #roundTrip = Infinity

  commitSent (lease: Lease, latency: CommitLatency): PendingCommit {
    const commit = { lease, latency, since: performance.now() }
    if (latency.isLow && lease.sharable) this.#commits.push(commit)
    return commit
  }

  /** The lease whose COMMIT was sent first, or null. A connection whose COMMIT has run for long already is not handed over. */
  next (): Lease | null {
    const earliest = performance.now() - this.#roundTrip - slow
    for (let commit = this.#commits.shift(); commit !== undefined; commit = this.#commits.shift()) {
      if (commit.since > earliest && commit.lease.sharable) return commit.lease
    }
    return null
  }

  commitAnswered (commit: PendingCommit): void {
    // Usually it is the first.
    const place = this.#commits.indexOf(commit)
    if (place === 0) this.#commits.shift()
    else if (place > 0) this.#commits.splice(place, 1)
    const duration = performance.now() - commit.since
    this.recordRoundTrip(duration)
    commit.latency.record(duration - this.#roundTrip)
  }

  /** @param duration how long an answer took, in milliseconds */
  recordRoundTrip (duration: number): void {
    this.#roundTrip = Math.min(duration, this.#roundTrip * creep)
  }
}
