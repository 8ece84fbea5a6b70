import { inspect } from 'node:util'
import { setTimeout as sleep } from 'node:timers/promises'

export interface WaitForOptions {
  /** Milliseconds before it gives up, of those in which this process got to run. Default 15000. */
  timeout?: number
  /** Milliseconds between two tries. Default 10. */
  interval?: number
  /** What was awaited, for the error. */
  message?: string
}

export type Truthy<T> = Exclude<T, false | 0 | 0n | '' | null | undefined | void>

const timedOut = Symbol('timed out')
const step = 10

/**
 * Calls `fn` until it returns something truthy, and returns that. An exception counts as "not yet" and is shown
 * when the time is up; a call that never settles does not outlive the timeout either.
 */
export async function waitFor<T> (fn: () => T | Promise<T>, options: WaitForOptions = {}): Promise<Truthy<T>> {
  const { timeout = 15000, interval = 10, message = 'waitFor' } = options
  const giveUp = new AbortController()
  const deadline = pass(timeout, giveUp.signal)
  deadline.catch(() => {})
  let last = 'no call has returned yet'
  try {
    while (true) {
      try {
        const value = await Promise.race([attempt(fn), deadline])
        if (value === timedOut) break
        if (value) return value as Truthy<T>
        last = `last value: ${inspect(value, { depth: 4 })}`
      } catch (error) {
        last = `last error: ${inspect(error)}`
      }
      if (await Promise.race([sleep(interval), deadline]) === timedOut) break
    }
    throw new Error(`${message}: not within ${timeout} ms, ${last}`)
  } finally {
    giveUp.abort()
  }
}

/** In small steps: of the time for which a busy machine lets this process wait, each counts little. */
async function pass (milliseconds: number, signal: AbortSignal): Promise<typeof timedOut> {
  for (let left = milliseconds; left > 0; left -= step) await sleep(Math.min(step, left), undefined, { signal })
  return timedOut
}

async function attempt<T> (fn: () => T | Promise<T>): Promise<T> {
  return fn()
}
