import type { RetryOptions } from '../../types/options.ts'
import { checkOptions, optionsError } from './option-rules.ts'
import { retryRules } from './option-lists.ts'
import { ownFields } from '../own-fields.ts'

/** How many attempts work has whose transaction fails because of a concurrent one, and the delays between them. */
export interface RetryPolicy {
  /** The most attempts, the first included: at least 2. */
  readonly attempts: number
  /** The longest delay after the first attempt. Each further attempt doubles it. Milliseconds. */
  readonly minDelay: number
  /** No delay is longer. Milliseconds. */
  readonly maxDelay: number
}

/**
 * @param path what precedes `retry` in a message
 * @returns null if work has one attempt
 * @throws FST_PG_SCOPE_OPTIONS
 */
export function retryPolicyOf (retry: number | false | RetryOptions | undefined, path: string): RetryPolicy | null {
  if (retry === undefined || retry === false) return null
  const given = typeof retry === 'number' ? { attempts: retry } : retry
  checkOptions(given, retryRules, `${path}retry.`)
  const own = ownFields<RetryOptions>(given)
  const { attempts = 3, minDelay = Math.min(20, own.maxDelay ?? 20), maxDelay = Math.max(1000, minDelay) } = own
  if (minDelay > maxDelay) throw optionsError(`${path}retry.minDelay`, `≤ \`retry.maxDelay\` (${maxDelay})`, minDelay)
  return attempts === 1 ? null : Object.freeze({ attempts, minDelay, maxDelay })
}

/**
 * The delay after a failed attempt, in milliseconds: exponential, with full jitter, so that transactions that have met
 * do not meet again, and many processes do not connect at once.
 *
 * @param attempt its number, from 1 on
 */
export function delayAfter (
  { minDelay, maxDelay }: Pick<RetryPolicy, 'minDelay' | 'maxDelay'>, attempt: number
): number {
  return Math.random() * Math.min(maxDelay, minDelay * 2 ** (attempt - 1))
}
