import type { Lease } from './lease.ts'

/** How much longer than a round trip a COMMIT may take before nobody is put behind it. Milliseconds. */
const slow = 50

/** How much what was slow still counts after a COMMIT that was not. */
const memory = 0.9

/** How fast the shortest answer is forgotten, for the way to the server may become longer. */
const creep = 1.01

/** How much longer than a round trip the COMMITs of one kind of session take. */
export class CommitPace {
  /** The longest of late, in milliseconds. */
  #longest = 0

  /** @param excess milliseconds */
  took (excess: number): void {
    this.#longest = Math.max(excess, this.#longest * memory)
  }

  /** Some always take long, for a deferred trigger say: who waits is better off with the next connection that comes free. */
  get quick (): boolean {
    return this.#longest < slow
  }
}

/** A connection whose session has written COMMIT. */
export interface Offer {
  readonly lease: Lease
  readonly pace: CommitPace
  /** performance.now() when COMMIT was written. */
  readonly since: number
}

/**
 * Connections whose sessions wait for the answer to COMMIT. It ends the transaction whatever the answer is, so that the next
 * session may write behind it: a connection is held for as many round trips as there are statements, and not for one more.
 */
export class HandOver {
  /** In the order in which COMMIT was written: the first is answered first, as far as one can know. */
  readonly #offers: Offer[] = []
  /** The shortest that an answer took, in milliseconds. */
  #roundTrip = Infinity

  offer (lease: Lease, pace: CommitPace): Offer {
    const offer = { lease, pace, since: performance.now() }
    if (pace.quick && lease.sharable) this.#offers.push(offer)
    return offer
  }

  /** The connection of the oldest offer, or null. One whose COMMIT takes long by now is left to its own session. */
  next (): Lease | null {
    const earliest = performance.now() - this.#roundTrip - slow
    for (let offer = this.#offers.shift(); offer !== undefined; offer = this.#offers.shift()) {
      if (offer.since > earliest && offer.lease.sharable) return offer.lease
    }
    return null
  }

  answered (offer: Offer): void {
    // The oldest is answered first, mostly.
    const place = this.#offers.indexOf(offer)
    if (place === 0) this.#offers.shift()
    else if (place > 0) this.#offers.splice(place, 1)
    const duration = performance.now() - offer.since
    this.took(duration)
    offer.pace.took(duration - this.#roundTrip)
  }

  /** @param duration how long an answer took, in milliseconds */
  took (duration: number): void {
    this.#roundTrip = Math.min(duration, this.#roundTrip * creep)
  }
}
