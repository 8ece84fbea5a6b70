import type { FastifyRequest } from 'fastify'
import type { IdempotencyOptions, RouteOptions } from '../../types/options.ts'
import { pgScopeError } from '../errors.ts'
import { ownFields } from '../own-fields.ts'
import { idempotencyRules } from './option-lists.ts'
import { checkOptions, quoted } from './option-rules.ts'

/** How a route honours the header Idempotency-Key. */
export interface IdempotencyPolicy {
  /** In lower case. */
  readonly header: string
  readonly required: boolean
  /** The sender that a key belongs to. */
  readonly keyOf: ((request: FastifyRequest) => unknown) | null
  /** What a repeated request must have in common with the first one; null: method, URL and body. */
  readonly fingerprint: ((request: FastifyRequest) => unknown) | null
  /** How long an answer is kept. Milliseconds. */
  readonly ttl: number
  /** How long a repeated request waits for the first one. Milliseconds. */
  readonly wait: number
}

/** What an idempotent route cannot have, and why not. */
const contradictions: [keyof RouteOptions, unknown, string][] = [
  ['mode', 'autocommit', 'the key, the work and the answer are saved by one transaction'],
  ['commitOn', 'response', 'the answer is saved with the work, before it is sent'],
  ['readOnly', true, 'the key is saved with the work'],
  ['onAbort', 'commit', 'work whose client has disconnected has no answer that could be saved']
]

/**
 * @param path what precedes an option's name in a message
 * @returns null if the route does not honour the header
 * @throws FST_PG_SCOPE_OPTIONS
 */
export function idempotencyPolicyOf (options: RouteOptions, path: string): IdempotencyPolicy | null {
  const { idempotency } = options
  if (idempotency === undefined || idempotency === false) return null
  const given: IdempotencyOptions = idempotency === true ? {} : idempotency
  checkOptions(given, idempotencyRules, `${path}idempotency.`)
  for (const [name, value, why] of contradictions) {
    if (options[name] !== value) continue
    throw pgScopeError('FST_PG_SCOPE_OPTIONS', `${quoted(`${path}idempotency`)} does not work with ` +
      `\`${name}: ${typeof value === 'string' ? `'${value}'` : String(value)}\`: ${why}.`)
  }
  const { header = 'idempotency-key', required = false, keyOf = null, fingerprint = null } = ownFields(given)
  const { ttl = 86400000, wait = 5000 } = ownFields(given)
  return Object.freeze({ header: header.toLowerCase(), required, keyOf, fingerprint, ttl, wait })
}
