import type { FastifyRequest } from 'fastify'
import { pgScopeError } from '../errors.ts'
import { kindOf } from '../kind-of.ts'
import { ownFields } from '../own-fields.ts'
import { asTraceparent } from '../telemetry/traceparent.ts'
import type { PgScopeOptions } from '../../types/options.ts'
import { traceContextRules } from './option-lists.ts'
import { checkOptions } from './option-rules.ts'

/** How the server learns which trace a transaction belongs to. */
export interface TracePolicy {
  readonly setting: string
  /** application_name shows it too, and with it the server's log. */
  readonly inApplicationName: boolean
  /** The user's function, or null: what a tracer says, else the header. */
  readonly of: ((request: FastifyRequest) => unknown) | null
}

/** @returns null if it does not learn it @throws FST_PG_SCOPE_OPTIONS */
export function tracePolicyOf (option: PgScopeOptions['traceContext']): TracePolicy | null {
  if (option === undefined || option === false) return null
  const given = option === true ? {} : option
  checkOptions(given, traceContextRules, 'traceContext.')
  const { setting = 'pg_scope.traceparent', applicationName = true, of } = ownFields(given)
  return Object.freeze({ setting, inApplicationName: applicationName, of: of ?? null })
}

/**
 * The traceparent of a request, as far as no tracer says it.
 *
 * @throws what the user's function throws; FST_PG_SCOPE_OPTIONS for a result of the wrong type
 */
export function traceparentOf ({ of }: TracePolicy, request: FastifyRequest): string | null {
  if (of === null) return asTraceparent(request.headers.traceparent)
  const result = of(request)
  if (result !== undefined && typeof result !== 'string') {
    throw pgScopeError('FST_PG_SCOPE_OPTIONS', '`traceContext.of(request)` must return a traceparent or undefined, ' +
      `got ${kindOf(result)}.`)
  }
  // A client may have sent it: what is malformed must not fail its request.
  return asTraceparent(result)
}
