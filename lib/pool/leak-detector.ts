import { letExit } from '../process-exit.ts'
import type { Lease } from './lease.ts'
import type { AcquireRequest } from './wait-queue.ts'

/** Told of what the pool gives out and takes back. */
export interface LeaseObserver {
  asked (waiter: AcquireRequest): void
  granted (lease: Lease, waiter: AcquireRequest): void
  returned (lease: Lease): void
}

/** With no threshold nothing is watched, and it costs nothing. */
export const noLeakDetection: LeaseObserver = { asked () {}, granted () {}, returned () {} }

export interface LeakReport {
  /** Method and route of the request that holds the connection, where it is one. */
  route: string | undefined
  /** Milliseconds since it was given out. */
  held: number
  /** Where it was asked for: the frames of the app, innermost first. */
  stack: string
}

/** Frames that are asked for: those of this package are left out of a report, and an app's own must not be cut off by them. */
const depth = 40
/** Frames that are reported. */
const shown = 10

/** A connection that was given out. */
interface Held {
  readonly since: number
  readonly waiter: AcquireRequest
  readonly timer: NodeJS.Timeout
  reported: boolean
}

/** Reports connections that are held longer than a threshold, and again when they come back. Nothing is reclaimed by force. */
export class LeakDetector implements LeaseObserver {
  readonly #threshold: number
  readonly #suspected: (report: LeakReport) => void
  readonly #returned: (report: LeakReport) => void
  readonly #stacks = new WeakMap<AcquireRequest, Error>()
  readonly #held = new WeakMap<Lease, Held>()

  /** @param threshold milliseconds */
  constructor (threshold: number, suspected: (report: LeakReport) => void, returned: (report: LeakReport) => void) {
    this.#threshold = threshold
    this.#suspected = suspected
    this.#returned = returned
  }

  asked (waiter: AcquireRequest): void {
    // A first batch that is sent again asks again, out of an answer of the server's: that place says nothing.
    if (this.#stacks.has(waiter)) return
    const { stackTraceLimit } = Error
    Error.stackTraceLimit = depth
    this.#stacks.set(waiter, new Error('asked for here'))
    Error.stackTraceLimit = stackTraceLimit
  }

  granted (lease: Lease, waiter: AcquireRequest): void {
    const timer = setTimeout(() => {
      held.reported = true
      this.#suspected(this.#report(held))
    }, this.#threshold)
    letExit(timer)
    const held: Held = { since: performance.now(), waiter, timer, reported: false }
    this.#held.set(lease, held)
  }

  returned (lease: Lease): void {
    const held = this.#held.get(lease)
    if (held === undefined) return
    this.#held.delete(lease)
    clearTimeout(held.timer)
    if (held.reported) this.#returned(this.#report(held))
  }

  #report ({ since, waiter }: Held): LeakReport {
    return { route: waiter.label, held: Math.round(performance.now() - since), stack: callers(this.#stacks.get(waiter)?.stack ?? '') }
  }
}

/** The frames of whoever called into this package; all of them, where there is nobody else. */
function callers (stack: string): string {
  const frames = stack.split('\n').slice(1)
  // The first frame is this file's own. With source maps it is not where import.meta.url says.
  const [, folder] = /([^\s(]*)[/\\]pool[/\\]leak-detector\.[jt]s:/.exec(frames[0] ?? '') ?? []
  const foreign = frames.filter((frame) => !(folder !== undefined && frame.includes(folder)) && !frame.endsWith('(<anonymous>)') && !/[( ]node:/.test(frame))
  return (foreign.length > 0 ? foreign : frames).slice(0, shown).join('\n')
}
