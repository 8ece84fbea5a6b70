// Where a call belongs that a client makes on its session, beside the rules for all calls.
import type { Reject } from '../turns.ts'

/** Starts a call when it is its turn. */
export type Place = (start: () => void, reject: Reject | null) => void

let place: Place | null = null

/** Makes a call on a session, which takes this place in its order. */
export function callAt<T> (at: Place, call: () => T): T {
  place = at
  try {
    return call()
  } finally {
    place = null
  }
}

/** The call that is being made has a place of its own. */
export function hasPlace (): boolean {
  return place !== null
}

/** The place of the call that is being made, or null. It is for one call alone. */
export function takePlace (): Place | null {
  const taken = place
  place = null
  return taken
}
