import { letExit } from '../process-exit.ts'
import type { Lease } from './lease.ts'
import { PoolObserver } from './pool-observer.ts'
import type { AcquireRequest } from './wait-queue.ts'

export interface LeakReport {
  /** Method and route of the request that holds the connection, if a request holds it. */
  route: string | undefined
  /** Milliseconds since the connection was granted. */
  held: number
  /** Where the connection was requested: stack frames of the app, innermost first. */
  stack: string
}

/** Frames to capture: enough that those of this package, which a report leaves out, do not cut off the app's own. */
const depth = 40
/** Frames to report. */
const shown = 10

/** A lease that is not returned. */
interface Held {
  readonly since: number
  readonly waiter: AcquireRequest
  readonly timer: NodeJS.Timeout
  reported: boolean
}

/**
 * Reports leases that are held longer than a threshold, and again when they are returned. It never takes a connection
 * away.
 */
export class LeakDetector extends PoolObserver {
  readonly #threshold: number
  readonly #suspected: (report: LeakReport) => void
  readonly #returned: (report: LeakReport) => void
  readonly #stacks = new WeakMap<AcquireRequest, Error>()
  readonly #held = new WeakMap<Lease, Held>()

  /** @param threshold milliseconds */
  constructor (threshold: number, suspected: (report: LeakReport) => void, returned: (report: LeakReport) => void) {
    super()
    this.#threshold = threshold
    this.#suspected = suspected
    this.#returned = returned
  }

  override requested (waiter: AcquireRequest): void {
    // A resent first batch makes the same request again from an answer's callback, whose stack says nothing about
    // the app.
    if (this.#stacks.has(waiter)) return
    const { stackTraceLimit } = Error
    Error.stackTraceLimit = depth
    this.#stacks.set(waiter, new Error('requested here'))
    Error.stackTraceLimit = stackTraceLimit
  }

  override granted (lease: Lease, waiter: AcquireRequest): void {
    const timer = setTimeout(() => {
      held.reported = true
      this.#suspected(this.#report(held))
    }, this.#threshold)
    letExit(timer)
    const held: Held = { since: performance.now(), waiter, timer, reported: false }
    this.#held.set(lease, held)
  }

  override returned (lease: Lease): void {
    const held = this.#held.get(lease)
    if (held === undefined) return
    this.#held.delete(lease)
    clearTimeout(held.timer)
    if (held.reported) this.#returned(this.#report(held))
  }

  #report ({ since, waiter }: Held): LeakReport {
    const stack = callers(this.#stacks.get(waiter)?.stack ?? '')
    return { route: waiter.label?.route, held: Math.round(performance.now() - since), stack }
  }
}

/** The stack frames outside of this package; all frames if there are no others. */
function callers (stack: string): string {
  const frames = stack.split('\n').slice(1)
  // The first frame is in this file. With source maps its path differs from import.meta.url.
  const [, folder] = /([^\s(]*)[/\\]pool[/\\]leak-detector\.[jt]s:/.exec(frames[0] ?? '') ?? []
  const isForeign = (frame: string): boolean => !(folder !== undefined && frame.includes(folder)) &&
    !frame.endsWith('(<anonymous>)') && !/[( ]node:/.test(frame)
  const foreign = frames.filter(isForeign)
  return (foreign.length > 0 ? foreign : frames).slice(0, shown).join('\n')
}
