import { STATUS_CODES } from 'node:http'
import createError, { type FastifyError, type FastifyErrorConstructor } from '@fastify/error'
import fp from 'fastify-plugin'
import { isPgScopeError } from 'fastify-pg-scope'

export const UnknownAccount = createError('UNKNOWN_ACCOUNT', 'There is no such account.', 404)
export const SameAccount = createError('SAME_ACCOUNT', 'A transfer needs two different accounts.', 400)
const BalanceTooLow = createError('BALANCE_TOO_LOW', 'The balance does not suffice.', 409)
const BalanceTooHigh = createError('BALANCE_TOO_HIGH', 'The account cannot take that much.', 409)

/** What it means to a client that the database refused a change: the constraint's name tells. */
const refusals: Record<string, FastifyErrorConstructor> = {
  balance_not_negative: BalanceTooLow,
  balance_exact: BalanceTooHigh
}

/** The database's error, or the one of a query builder that wraps it. */
interface Refused {
  constraint?: string
  cause?: { constraint?: string }
}

/**
 * Turns errors into answers. Fastify's own handler does the rest: it logs them, and sends `statusCode`, `headers`
 * and a JSON body. The session has been told before of the error, and rolls back whatever is sent.
 */
export default fp(async (app) => {
  app.setErrorHandler<FastifyError & Refused>((error, _request, reply) => {
    const constraint = error.constraint ?? error.cause?.constraint
    const Refusal = constraint === undefined ? undefined : refusals[constraint]
    if (Refusal !== undefined) return reply.send(new Refusal({ cause: error }))
    return reply.send((error.statusCode ?? 500) < 500 ? error : discreet(error))
  })
}, { name: 'errors' })

/** Messages of the database and of the network name hosts, users and tables: they are for the log. */
function discreet (error: FastifyError & { headers?: Record<string, string> }): Error {
  const { statusCode = 500, headers } = error
  // Our client has to know that its work may have been done.
  if (isPgScopeError(error) && error.code === 'FST_PG_SCOPE_COMMIT_UNKNOWN') return error
  const code = isPgScopeError(error) ? error.code : undefined
  return Object.assign(new Error(STATUS_CODES[statusCode], { cause: error }), { statusCode, headers, code })
}
